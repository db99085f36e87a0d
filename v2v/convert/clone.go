package convert

import "context"

// clone makes a raw disk of a raw one by sharing its blocks, where the file system of both can. What was asked to be slow is not done so, nor what was
// begun otherwise.
func (j *job) clone(ctx context.Context) (bool, error) {
	if j.src == nil || j.format.Name != "raw" || j.out.Source.Format != "raw" || j.Rate > 0 || j.out.Resumed > 0 {
		return false, nil
	}
	if shared, err := j.dst.Clone(j.src, j.written); !shared || err != nil {
		return false, err
	}
	j.out.Shared = true
	if j.Verify { // what is compared with has to be read
		var err error
		j.out.Result, err = Copy(ctx, j.reader, nil, CopyOptions{Workers: j.Workers, Digest: true, Progress: func(p Progress) {
			j.Report(Event{Phase: "copy", Progress: p, Total: j.total})
		}})
		if err != nil {
			return true, err
		}
	}
	j.out.Size, j.out.Data, j.out.Written = j.size, j.total, 0
	j.Report(Event{Phase: "copy", Progress: Progress{Offset: j.size, Size: j.size, Data: j.total}, Total: j.total})
	j.out.Format = j.format.Name
	return true, j.writer.Finish()
}
