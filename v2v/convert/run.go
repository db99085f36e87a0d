package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
)

// Request is one conversion of a path to a path. What can be written as JSON of it is the conversion; the rest is how this process does it.
type Request struct {
	// Source is a path, or "-" for Stdin; SourceFormat is its format, and "" lets it be found out.
	Source, SourceFormat string
	// Target is a path, or "-" for Stdout; TargetFormat is what it becomes, Options are -o arguments.
	Target, TargetFormat string
	Options              []string
	// Opening and Files are decisions about the source.
	Opening image.OpenOptions
	Files   file.OpenOptions
	// Verify reads the target back and compares digests before it gets its name.
	Verify bool
	// Resume notes how far the conversion is, and goes on where an earlier one with Resume ended.
	Resume bool
	// SaveEvery is how much of the disk lies between two notes of Resume, in bytes; 0 is 256 MiB. Each costs a flush of the target.
	SaveEvery int64
	// NoSpaceCheck begins although the target's file system may be too small.
	NoSpaceCheck bool
	// Rate limits reading, in bytes per second.
	Rate int64
	// Workers is CopyOptions.Workers.
	Workers int
	// Report is told what happens, from one goroutine; nil tells nobody.
	Report func(Event) `json:"-"`

	Stdin  io.Reader `json:"-"`
	Stdout io.Writer `json:"-"`
	// Open and OpenStream read an image: in this process (nil), or in one without rights.
	Open       func(ctx context.Context, src *file.Source, format string, opt image.OpenOptions) (image.Reader, error)      `json:"-"`
	OpenStream func(ctx context.Context, src io.Reader, name, format string, opt image.OpenOptions) (image.Streamer, error) `json:"-"`
}

// Event is what Report is told.
type Event struct {
	// Phase is "copy" or "verify".
	Phase string
	Progress
	// Total is how much data there are, in bytes; 0 if that is not known.
	Total int64
	// Note is something that people should know, once; empty in all other events.
	Note string
}

// Outcome is what a conversion did.
type Outcome struct {
	Result
	// Source and Target describe both ends.
	Source image.Info
	Format string
	// Resumed is where the conversion went on, in bytes of the disk; 0 is the beginning.
	Resumed int64
	// Shared says that the target shares the source's blocks, and nothing was copied.
	Shared bool
	// Verified says that the target was read back and had the same digest.
	Verified bool
	Took     time.Duration
}

// job is a Request that is being done.
type job struct {
	Request
	format  image.Format
	options image.Options

	src    *file.Source
	reader image.Reader
	stream image.Streamer
	size   int64 // of the source, in bytes
	unit   int64
	total  int64 // bytes of data, 0 if not known
	maps   []byte

	dst     *file.Target
	written int64 // the size that the target has
	writer  image.Writer
	resume  *notes
	wrong   bool // what was written is not what was to be written
	out     Outcome
}

// Run converts. Nothing has the target's name until all of it is durable; a Run that fails or is cancelled leaves nothing, unless it is to be resumed.
func Run(ctx context.Context, req Request) (Outcome, error) {
	began := time.Now()
	j := &job{Request: req}
	if j.Report == nil {
		j.Report = func(Event) {}
	}
	err := j.run(ctx)
	j.out.Took = time.Since(began)
	return j.out, err
}

func (j *job) run(ctx context.Context) (err error) {
	if err := j.check(); err != nil {
		return err
	}
	if err := j.openSource(ctx); err != nil {
		return err
	}
	defer j.closeSource()
	if j.written, err = j.format.Sizes(j.size, j.options); err != nil {
		return err
	}
	if err := j.openTarget(ctx); err != nil {
		return err
	}
	defer func() {
		if j.writer != nil {
			err = errors.Join(err, j.writer.Close())
		}
		switch {
		case err == nil:
		case j.Resume && j.resume.saved && !j.wrong:
			j.dst.Keep()
			err = fmt.Errorf("%w; the same command with --resume goes on at %d of %d bytes", err, j.resume.Offset, j.size)
		default:
			j.dst.Abort()
		}
	}()
	if err := j.begin(ctx); err != nil {
		return err
	}
	if err := j.copy(ctx); err != nil {
		return err
	}
	if j.Verify {
		if err := j.verify(ctx); err != nil {
			// Nobody goes on with that: the mark of the notes lies behind what is wrong.
			j.wrong = ctx.Err() == nil
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return j.dst.Commit()
}

// Check finds what can be found of a wrong call before anything is opened; Run does so too.
func (r Request) Check() error { return (&job{Request: r}).check() }

// check looks at what was asked.
func (j *job) check() error {
	var err error
	if j.format, err = formats.ByName(j.TargetFormat); err != nil {
		return err
	}
	if j.format.Create == nil {
		return fmt.Errorf("%s is read here, and not written; choose another -O", j.format.Name)
	}
	if j.options, err = j.format.ParseOptions(j.Options); err != nil {
		return err
	}
	if _, err := j.format.Sizes(0, j.options); err != nil {
		return err
	}
	if j.SourceFormat != "" {
		if _, err := formats.ByName(j.SourceFormat); err != nil {
			return err
		}
	}
	switch {
	case j.Source == "" || j.Target == "":
		return errors.New("the name of the source, or of the target, is empty")
	case j.Workers < 0 || j.Workers > 256:
		return fmt.Errorf("-m %d: it is a number from 1 to 256", j.Workers)
	case j.Source == "-" && j.SourceFormat == "":
		return errors.New("standard input: say what comes there with -f, a pipe cannot be looked at twice")
	case j.Resume && (j.Source == "-" || j.Target == "-"):
		return errors.New("--resume needs files at both ends: what went through a pipe is gone")
	case j.Resume && j.format.Resume == nil:
		return fmt.Errorf("--resume: %s cannot be gone on with", j.format.Name)
	case j.Verify && j.Target == "-":
		return errors.New("--verify needs a target that can be read back, and standard output is gone")
	}
	return nil
}

func (j *job) openSource(ctx context.Context) error {
	if j.Source == "-" {
		return j.openStdin(ctx)
	}
	src, err := file.Open(j.Source, j.Files)
	if err != nil {
		return err
	}
	j.src = src
	open := j.Open
	if open == nil {
		open = openDirect
	}
	if j.reader, err = open(ctx, src, j.SourceFormat, j.Opening); err != nil {
		src.Close()
		return err
	}
	j.out.Source = j.reader.Info()
	j.size, j.unit = j.reader.Size(), j.out.Source.Unit
	if j.maps, j.total, err = mapped(j.reader); err != nil {
		j.closeSource()
		return err
	}
	for _, w := range j.out.Source.Warnings {
		j.Report(Event{Note: fmt.Sprintf("%s: %s", j.Source, w)})
	}
	return nil
}

func openDirect(ctx context.Context, src *file.Source, format string, opt image.OpenOptions) (image.Reader, error) {
	_, r, err := formats.Open(ctx, src, format, opt)
	return r, err
}

// OpenStream opens a source that comes once, in this process. Its format has to be said.
func OpenStream(ctx context.Context, src io.Reader, name, format string, opt image.OpenOptions) (image.Streamer, error) {
	f, err := formats.ByName(format)
	if err != nil {
		return nil, err
	}
	if f.OpenStream == nil {
		return nil, fmt.Errorf("%s cannot be read from a pipe: its tables lie anywhere; give a file", f.Name)
	}
	return f.OpenStream(ctx, src, name, opt)
}

func (j *job) openStdin(ctx context.Context) error {
	open := j.OpenStream
	if open == nil {
		open = OpenStream
	}
	var err error
	j.stream, err = orDone(ctx, func() (image.Streamer, error) {
		return open(ctx, j.Stdin, "standard input", j.SourceFormat, j.Opening)
	})
	if err != nil {
		return err
	}
	j.out.Source = j.stream.Info()
	j.size, j.unit = j.stream.Size(), j.out.Source.Unit
	return nil
}

func (j *job) closeSource() {
	if j.reader != nil {
		j.reader.Close()
	}
	if j.stream != nil {
		j.stream.Close()
	}
}

func (j *job) openTarget(ctx context.Context) error {
	opt := file.CreateOptions{Resume: j.Resume, Stdout: j.Stdout}
	if j.src != nil {
		opt.Sources = j.src.Opened()
	}
	create := func() (*file.Target, error) { return file.Create(j.Target, opt) }
	if info, err := os.Stat(j.Target); err == nil {
		if err := j.fits(info.Mode()); err != nil {
			return err
		}
		if info.Mode()&fs.ModeNamedPipe != 0 {
			at := create
			create = func() (*file.Target, error) { return orDone(ctx, at) } // it waits for somebody who reads
		}
	}
	dst, err := create()
	if err != nil {
		return err
	}
	j.dst = dst
	if j.Resume && dst.StateFile() == "" {
		dst.Abort()
		return fmt.Errorf("--resume: %s has no place for notes beside it; v2v deploy keeps them for devices", j.Target)
	}
	if !j.NoSpaceCheck && j.total > 0 {
		if err := dst.CheckSpace(j.need()); err != nil {
			if dst.Resumed() {
				dst.Keep() // for a run that has the room
			} else {
				dst.Abort()
			}
			return err
		}
	}
	return nil
}

// fits says whether what the target's name stands for can hold an image of the format.
func (j *job) fits(mode fs.FileMode) error {
	can := func(f func(image.Options) bool) bool { return f != nil && f(j.options) }
	kind := strings.TrimSpace(j.format.Name + " " + j.options["subformat"])
	switch {
	case mode&fs.ModeNamedPipe != 0 && !can(j.format.Streams):
		return fmt.Errorf("%s: is a pipe, and %s is not written from front to back; name a file", j.Target, kind)
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0 && can(j.format.EndCounts):
		return fmt.Errorf("%s: is a block device, and readers of %s look at the end of the file, which a device has elsewhere; name a file, or choose another format", j.Target, kind)
	}
	return nil
}

// need is how much room the target takes at most, where that can be known: compression cannot be foreseen.
func (j *job) need() int64 {
	if word := j.options["compress"]; word != "" && word != "none" {
		return 0
	}
	if j.options["subformat"] == "streamOptimized" {
		return 0
	}
	return j.total
}

// begin makes the writer, or goes on with the one of an earlier run.
func (j *job) begin(ctx context.Context) error {
	if j.Resume {
		j.resume = &notes{path: j.dst.StateFile(), Identity: j.identity()}
		why := j.resume.load(j.dst, j.format.Name == "raw")
		if why == "" {
			var err error
			if j.writer, err = j.format.Resume(ctx, j.dst, j.written, j.options, j.resume.Writer); err == nil {
				j.out.Resumed, j.resume.saved = j.resume.Offset, true
				j.Report(Event{Note: fmt.Sprintf("going on at %d of %d bytes", j.resume.Offset, j.size)})
				if p, ok := j.writer.(image.Placer); ok {
					return p.Forget(j.resume.Offset, j.written-j.resume.Offset)
				}
				return nil
			}
			why = err.Error()
		}
		if j.dst.Resumed() {
			j.Report(Event{Note: fmt.Sprintf("beginning again: %s", why)})
		}
		j.resume.Mark = Mark{}
		if err := j.dst.Restart(); err != nil {
			return err
		}
	}
	var err error
	j.writer, err = j.format.Create(ctx, j.dst, j.written, j.options)
	return err
}

// copy writes all, and finishes.
func (j *job) copy(ctx context.Context) error {
	if shared, err := j.clone(ctx); shared || err != nil {
		return err
	}
	opt := CopyOptions{Workers: j.Workers, Rate: j.Rate, Digest: j.Verify}
	opt.Progress = func(p Progress) { j.Report(Event{Phase: "copy", Progress: p, Total: j.total}) }
	if j.resume != nil {
		opt.From, opt.Sum, opt.Tail = j.resume.Offset, j.resume.Sum, j.resume.Tail
		opt.Save, opt.Every = j.resume.save, cmp.Or(j.SaveEvery, saveEvery)
	}
	var err error
	// These formats' places are bytes of the file that was opened, and nothing lies over them: no log, no archive around it.
	if j.src != nil && j.Open != nil && slices.Contains([]string{"qcow2", "vdi"}, j.out.Source.Format) {
		opt.Plain = j.src
	}
	all := func() (done Result, err error) {
		if j.stream != nil {
			done, err = CopyStream(ctx, j.stream, j.writer, opt)
		} else {
			done, err = Copy(ctx, j.reader, j.writer, opt)
		}
		if p, ok := j.writer.(image.Placer); ok && err == nil && j.written > j.size {
			err = p.ZeroAt(j.size, j.written-j.size) // the format rounded the size up, and a device may hold anything there
		}
		if err == nil {
			err = j.writer.Finish()
		}
		return done, err
	}
	if j.dst.Seekable() {
		j.out.Result, err = all()
	} else { // whoever reads the pipe may read no more
		j.out.Result, err = orDone(ctx, all)
	}
	j.out.Format = j.format.Name
	return err
}

// verify reads back what was written, from the disk if the kernel lets go of what it holds.
func (j *job) verify(ctx context.Context) error {
	src, err := j.dst.Reread()
	if err != nil {
		return err
	}
	r, err := j.format.Open(ctx, src, image.OpenOptions{})
	if err != nil {
		src.Close()
		return fmt.Errorf("read back what was written: %w", err)
	}
	defer r.Close()
	if j.dst.Device() != nil && j.format.Name == "raw" && r.Size() > j.written {
		r = cut{r, j.written} // the device is larger than the disk
	}
	if r.Size() != j.written {
		return fmt.Errorf("read back what was written: it has %d bytes, and %d were to be written", r.Size(), j.written)
	}
	if err := zeroTail(r, j.size); err != nil {
		return fmt.Errorf("read back what was written: %w", err)
	}
	got, err := Copy(ctx, cut{r, j.size}, nil, CopyOptions{Workers: j.Workers, Digest: true, Progress: func(p Progress) {
		j.Report(Event{Phase: "verify", Progress: p, Total: j.total})
	}})
	if err != nil {
		return fmt.Errorf("read back what was written: %w", err)
	}
	if !slices.Equal(got.Digest, j.out.Digest) {
		return &VerifyError{Target: j.Target, Want: j.out.Digest, Got: got.Digest}
	}
	j.out.Verified = true
	return nil
}

// VerifyError is a target that reads back other than it was written.
type VerifyError struct {
	Target    string
	Want, Got []byte
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("%s: reads back other than it was written (digest %x, want %x): its disk or this machine's memory is at fault; nothing was left under that name", e.Target, e.Got[:8], e.Want[:8])
}
