package deploy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/v2v/convert"
	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
)

// run is one attempt of a Request.
type run struct {
	Request
	found  found
	src    *file.Source
	reader image.Reader
	total  int64
	dst    *file.Target
	rec    Record
	marked int64 // the last mark, in bytes of the disk; -1 without one
	out    Outcome
}

func (r *run) once(ctx context.Context) (Outcome, error) {
	r.marked = -1
	// The image first: what cannot be read is said before anybody waits for a disk.
	if err := r.openImage(ctx); err != nil {
		return r.out, err
	}
	defer r.reader.Close()
	if err := r.openDisk(ctx); err != nil {
		return r.out, err
	}
	defer r.dst.Keep()
	if finished, err := r.begin(ctx); finished || err != nil {
		return r.out, err
	}
	if err := r.write(ctx); err != nil {
		return r.out, r.judge(ctx, err)
	}
	return r.out, nil
}

func (r *run) openImage(ctx context.Context) error {
	src, err := file.Open(r.Image, r.Files)
	if err != nil {
		return err
	}
	if r.reader, err = r.Open(ctx, src, r.Format, r.Opening); err != nil {
		src.Close()
		return err
	}
	r.src = src
	if r.rec.Image, r.total, err = template(src, r.reader); err != nil {
		r.reader.Close()
		return err
	}
	r.rec.Image.Disk = r.Opening.Disk
	return nil
}

// openDisk waits for the disk, proves what it is, and takes it.
func (r *run) openDisk(ctx context.Context) error {
	if r.Login != nil && r.Disk.Device == "" {
		r.Report(Event{Phase: "wait", Note: "logging in to " + r.Disk.IQN})
		limited, cancel := context.WithTimeout(ctx, r.Wait)
		err := r.Login(limited, r.Disk)
		cancel()
		if err != nil {
			return &Error{Kind: NotThere, Disk: r.Disk.String(), What: err.Error(), Err: err}
		}
	}
	f, err := wait(ctx, r.Sys, r.Disk, r.Wait, func(why string) {
		r.Report(Event{Phase: "wait", Note: fmt.Sprintf("waiting for %s: %s", r.Disk, why)})
	})
	if err != nil {
		return err
	}
	if size := int64(f.Size); size < r.reader.Size() {
		return &Error{Kind: TooSmall, Disk: r.Disk.String(), What: fmt.Sprintf("has %d bytes, and the image needs %d", size, r.reader.Size()), Do: "enlarge it, or choose another image"}
	}
	dst, err := file.Create(f.Node(), file.CreateOptions{Sources: r.src.Opened()})
	if err != nil && busy(f.Node()) {
		return &Error{Kind: InUse, Disk: r.Disk.String(), What: "is in use: " + file.Users(f.Node()), Do: "release it first", Err: err}
	}
	if err != nil {
		return r.judge(ctx, err)
	}
	r.dst, r.found = dst, f
	if err := r.proveOpened(); err != nil {
		dst.Keep()
		return err
	}
	return nil
}

// busy asks the kernel whether somebody else has claimed a device.
func busy(node string) bool {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.EBUSY)
}

// proveOpened looks again, now that the name cannot come to mean another disk: the node was opened by name, and sysfs was read before.
func (r *run) proveOpened() error {
	dev := r.dst.Device()
	if dev == nil {
		return &Error{Kind: WrongDisk, Disk: r.Disk.String(), What: r.found.Node() + " is no block device", Do: "nothing was written"}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dev.Fd()), &st); err != nil {
		return err
	}
	again, err := look(r.Sys, r.Disk)
	if err != nil {
		if _, ok := errors.AsType[*absence](err); ok {
			return &Error{Kind: Lost, Disk: r.Disk.String(), What: "went away: " + err.Error()}
		}
		return err
	}
	if unix.Major(st.Rdev) != again.Major || unix.Minor(st.Rdev) != again.Minor || again.WWID != r.found.WWID || again.DiskSeq != r.found.DiskSeq {
		return &Error{Kind: WrongDisk, Disk: r.Disk.String(), What: fmt.Sprintf("%s became another disk while it was opened", r.found.Node()), Do: "nothing was written"}
	}
	return nil
}

// begin decides whether to go on with an earlier run, and whether the disk may be written at all. It is finished where an earlier attempt at the same
// job was, and died before it could say so.
func (r *run) begin(ctx context.Context) (finished bool, err error) {
	t := Target{WWID: r.found.WWID, Size: int64(r.found.Size), SectorSize: r.found.SectorSize, Path: r.Disk.String()}
	if s := r.found.Session; s != nil {
		t.Portal, t.IQN, t.LUN = s.Portal, s.Target, r.Disk.iscsi().LUN
	}
	old, err := ReadRecord(r.State, t.WWID)
	if err != nil {
		return false, err
	}
	if old != nil && old.of(r.Job, r.Since, r.rec.Image, t) {
		r.out.Record, r.out.Device, r.out.Resumed = *old, r.found.Node(), r.reader.Size()
		return true, nil
	}
	from, own, why := r.begun(old, t)
	if !own && !r.Force {
		if err := r.refuseContent(ctx, old); err != nil {
			return false, err
		}
	}
	r.rec = Record{Version: 1, State: writing, Machine: r.Machine, Job: r.Job, Image: r.rec.Image, Target: t, Started: time.Now().UTC(), Before: succeed(old)}
	switch {
	case r.Fresh || !own:
	case from != nil:
		r.rec.Started, r.rec.Mark = from.Started, from.Mark
		if from == old {
			r.rec.Before = old.Before
		}
		r.out.Resumed, r.marked = from.Mark.Offset, from.Mark.Offset
		r.Report(Event{Phase: "copy", Note: fmt.Sprintf("going on at %d of %d bytes", from.Mark.Offset, r.reader.Size())})
	default:
		r.Report(Event{Phase: "copy", Note: "beginning again: " + why})
	}
	return false, r.record(ctx)
}

// begun finds what this run may go on from: this machine's record of the disk, or what the job's last attempt handed over, whichever is further of one
// run, and the later run's otherwise. Where there is one at all that is unfinished, what is on the disk is our own; why says what keeps us from going on.
func (r *run) begun(old *Record, t Target) (from *Record, own bool, why string) {
	take := func(c *Record) {
		if no := c.goesOn(r.rec.Image, t, r.dst.Device()); no != "" {
			why = no
		} else if from == nil || c.Mark.Offset > from.Mark.Offset {
			from = c
		}
	}
	h := r.handed(old, t)
	// What another job left unfinished here it may have ended on another machine, and the disk be in use since.
	if old != nil && old.State == writing && old.Target.WWID == t.WWID && (old.Job == "" || old.Job == r.Job) {
		own = true
		if h == nil || old.sameRun(h) { // else the job began again elsewhere after that
			take(old)
		}
	}
	if h != nil {
		take(h)
		// Other data than were written are somebody's who came after us, wherever that is recorded.
		own = own || h.Mark == nil || h.onDisk(t, r.dst.Device()) == ""
	}
	return from, own, why
}

// handed is what the job's last attempt handed over about this disk, unless this machine knows of a deploy to it that came after.
func (r *run) handed(old *Record, t Target) *Record {
	h := r.Handed
	switch {
	case h == nil || h.Job != r.Job || h.State != writing || t.WWID == "" || h.Target.WWID != t.WWID:
		return nil
	case old == nil:
		return h
	case old.State == done && old.Finished.After(h.Started), old.State == writing && !old.sameRun(h) && old.Started.After(h.Started):
		return nil
	}
	return h
}

// sameRun says whether two records are of one deploy, which may have gone on elsewhere.
func (r *Record) sameRun(o *Record) bool { return r.Job == o.Job && r.Started.Equal(o.Started) }

// record says how far the disk is, durably: here, and to whoever may go on elsewhere.
func (r *run) record(ctx context.Context) error {
	if err := r.rec.save(r.State); err != nil || r.Hand == nil {
		return err
	}
	handed := r.rec
	handed.Before = nil // a machine's own memory
	if err := r.Hand(ctx, handed); err != nil {
		return fmt.Errorf("%s: tell the queue how far the disk is: %w", r.Disk, err)
	}
	return nil
}

// refuseContent keeps what is on a disk unless somebody said that it may go.
func (r *run) refuseContent(ctx context.Context, old *Record) error {
	if r.Content == nil {
		return nil
	}
	src, err := r.dst.Reread()
	if err != nil {
		return err
	}
	defer src.Close()
	what, err := r.Content(ctx, src)
	if err != nil {
		return fmt.Errorf("%s: look at what is on it: %w", r.Disk, err)
	}
	if what == "" {
		return nil
	}
	if old != nil && old.State == done {
		what += fmt.Sprintf("; %s was deployed to it on %s", old.Image.Path, old.Finished.Format(time.DateOnly))
		if old.Machine != "" {
			what += " for " + old.Machine
		}
	}
	do := "if all of that may go, say --force"
	if old != nil && old.State == writing && old.Job != "" {
		do = fmt.Sprintf("job %s left it unfinished here: `v2v jobs retry %s` goes on; %s", old.Job, old.Job, do)
	}
	return &Error{Kind: Content, Disk: r.Disk.String(), What: fmt.Sprintf("%s holds %s", r.found.Node(), what), Do: do}
}

// write copies, makes durable, reads back and records.
func (r *run) write(ctx context.Context) error {
	raw, err := formats.ByName("raw")
	if err != nil {
		return err
	}
	var w image.Writer
	if r.rec.Mark != nil {
		w, err = raw.Resume(ctx, r.dst, r.reader.Size(), nil, r.rec.Mark.Writer)
	} else {
		w, err = raw.Create(ctx, r.dst, r.reader.Size(), nil)
	}
	if err != nil {
		return err
	}
	defer w.Close()
	opt := convert.CopyOptions{Workers: r.Workers, Rate: r.Rate, Digest: true, Every: r.MarkEvery}
	opt.Save = func(m convert.Mark) error {
		r.rec.Mark = &m
		if err := r.record(ctx); err != nil {
			return err
		}
		r.marked = m.Offset
		return nil
	}
	opt.Progress = func(p convert.Progress) { r.Report(Event{Phase: "copy", Progress: p, Total: r.total}) }
	if r.rec.Mark != nil {
		opt.From, opt.Sum, opt.Tail = r.rec.Mark.Offset, r.rec.Mark.Sum, r.rec.Mark.Tail
	}
	result, err := convert.Copy(ctx, images{r.reader}, w, opt)
	if err != nil {
		return err
	}
	if err := r.clearRest(ctx); err != nil {
		return err
	}
	if err := w.Finish(); err != nil {
		return err
	}
	if !r.NoVerify {
		err := r.verify(ctx, raw, result.Digest)
		if e, ok := errors.AsType[*Error](err); ok && e.Kind == Mismatch {
			// The next run begins anew: the mark lies behind what is wrong.
			r.rec.Mark = nil
			return errors.Join(err, r.record(ctx))
		}
		if err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	r.rec.State, r.rec.Mark, r.rec.Finished = done, nil, time.Now().UTC()
	r.rec.Verified, r.rec.Digest = !r.NoVerify, hex.EncodeToString(result.Digest)
	if err := r.rec.save(r.State); err != nil {
		return err
	}
	r.out.Record, r.out.Device, r.out.Data, r.out.Zeros = r.rec, r.found.Node(), result.Data, result.Zeros
	return nil
}

// clearRest makes what lies behind the image read as zeros: the end, where a former partition table or array keeps its copy, or all of it.
func (r *run) clearRest(ctx context.Context) error {
	const tables = 1 << 20
	from := r.reader.Size()
	if end := int64(r.found.Size); !r.WipeRest {
		from = max(from, end-tables)
	}
	f, err := r.dst.Main()
	if err != nil {
		return err
	}
	for end := int64(r.found.Size); from < end; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n := min(end-from, convert.ZeroPiece)
		if err := f.Zero(from, n); err != nil {
			return err
		}
		from += n
	}
	return nil
}

func (r *run) verify(ctx context.Context, raw image.Format, want []byte) error {
	src, err := r.dst.Reread()
	if err != nil {
		return err
	}
	defer src.Close()
	back, err := raw.Open(ctx, begun{src, r.reader.Size()}, image.OpenOptions{})
	if err != nil {
		return fmt.Errorf("read the disk back: %w", err)
	}
	defer back.Close()
	got, err := convert.Copy(ctx, back, nil, convert.CopyOptions{Workers: r.Workers, Digest: true, Progress: func(p convert.Progress) {
		r.Report(Event{Phase: "verify", Progress: p})
	}})
	if err != nil {
		return fmt.Errorf("read the disk back: %w", err)
	}
	if !slices.Equal(got.Digest, want) {
		return &Error{Kind: Mismatch, Disk: r.Disk.String(), What: fmt.Sprintf("reads back other than it was written (digest %x, want %x)", got.Digest[:8], want[:8]),
			Do: "the disk, the way to it or this machine's memory is at fault: do not use it"}
	}
	return nil
}

// begun is the beginning of a disk, which may be larger than the image.
type begun struct {
	*file.Source
	size int64
}

func (b begun) Size() int64 { return b.size }

// judge tells an I/O error of a disk that went away from others.
func (r *run) judge(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if _, ok := errors.AsType[*imageError](err); ok {
		return err
	}
	for _, e := range []error{unix.EIO, unix.ENODEV, unix.ENXIO, unix.EREMOTEIO, unix.ETIMEDOUT, unix.ENOLINK, unix.ESHUTDOWN, unix.ENODATA, unix.EILSEQ} {
		if errors.Is(err, e) {
			return &Error{Kind: Lost, Disk: r.Disk.String(), What: fmt.Sprintf("was lost: %v", err), Do: "the same command goes on where it was", Err: err}
		}
	}
	return err
}

// failing is what a loss turns out to be when the disk is there all the time: one that does not take what is written to it.
func (r *run) failing(lost *Error) *Error {
	if f, err := look(r.Sys, r.Disk); err != nil || r.found.Size == 0 || f.DiskSeq != r.found.DiskSeq {
		return lost
	}
	return &Error{Kind: Failing, Disk: r.Disk.String(), What: fmt.Sprintf("is there, and fails again and again: %v", lost.Err),
		Do: "the disk or the way to it is at fault: the kernel's log says more; do not use it", Err: lost.Err}
}

// images marks errors of the image, so that none of them is taken for the disk's.
type images struct{ image.Reader }

func (i images) ReadAt(p []byte, off int64) (int, error) {
	n, err := i.Reader.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &imageError{err}
	}
	return n, err
}

// imageError is an error of the image, and says so by itself.
type imageError struct{ error }

func (e *imageError) Unwrap() error { return e.error }

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
