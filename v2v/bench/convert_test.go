package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// contest is a row: one conversion by both.
type contest struct {
	name string
	// source is made from the mixed disk by qemu-img with these options; nil takes the mixed disk itself.
	source []string
	from   string
	// ours and theirs are the options of each; the paths are added.
	ours, theirs []string
	// atLeast is how many times faster ours has to be, bigger how much larger its result may be (0: not looked at).
	atLeast, bigger float64
	// limit is what the codec alone takes on one core for the mixed disk; nil where there is none.
	limit func(*codecs) time.Duration
}

func contests() []contest {
	raw := func(o ...string) []string { return append([]string{"convert", "-f", "raw"}, o...) }
	best := []string{"-m", "4", "-W"}
	quiet := func(o ...string) []string { return append([]string{"convert", "-q"}, o...) }
	stream := []string{"-O", "vmdk", "-o", "subformat=streamOptimized"}
	return []contest{
		{name: "streamOptimized -> raw", source: stream, from: "vmdk", ours: quiet("-f", "vmdk", "-O", "raw"),
			theirs: append([]string{"convert", "-f", "vmdk", "-O", "raw"}, best...), atLeast: 3, limit: (*codecs).inflate},
		{name: "raw -> streamOptimized, fast", ours: quiet("-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized,level=1"),
			theirs: raw(stream...), atLeast: 6, bigger: 1.05, limit: (*codecs).deflate1},
		{name: "raw -> streamOptimized, small", ours: quiet("-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized,level=8"),
			theirs: raw(stream...), atLeast: 3, bigger: 1.0, limit: (*codecs).deflate8},
		{name: "qcow2 zlib -> raw", source: []string{"-O", "qcow2", "-c"}, from: "qcow2", ours: quiet("-f", "qcow2", "-O", "raw"),
			theirs: append([]string{"convert", "-f", "qcow2", "-O", "raw"}, best...), atLeast: 2, limit: (*codecs).inflate},
		{name: "raw -> qcow2 zlib", ours: quiet("-f", "raw", "-O", "qcow2", "-o", "compress=zlib"),
			theirs: raw(append([]string{"-O", "qcow2", "-c"}, best...)...), atLeast: 4, bigger: 1.05, limit: (*codecs).deflate1},
		{name: "raw -> qcow2 zstd", ours: quiet("-f", "raw", "-O", "qcow2", "-o", "compress=zstd"),
			theirs: raw(append([]string{"-O", "qcow2", "-c", "-o", "compression_type=zstd"}, best...)...), atLeast: 1.3, limit: (*codecs).zstd},
		{name: "qcow2 zstd -> raw", source: []string{"-O", "qcow2", "-c", "-o", "compression_type=zstd"}, from: "qcow2", ours: quiet("-f", "qcow2", "-O", "raw"),
			theirs: append([]string{"convert", "-f", "qcow2", "-O", "raw"}, best...), atLeast: 1.3, limit: (*codecs).unzstd},
		{name: "raw -> raw", ours: quiet("-f", "raw", "-O", "raw"), theirs: raw(append([]string{"-O", "raw"}, best...)...), atLeast: 1},
		{name: "raw -> qcow2", ours: quiet("-f", "raw", "-O", "qcow2"), theirs: raw(append([]string{"-O", "qcow2"}, best...)...), atLeast: 1},
		{name: "qcow2 -> raw", source: []string{"-O", "qcow2"}, from: "qcow2", ours: quiet("-f", "qcow2", "-O", "raw"),
			theirs: append([]string{"convert", "-f", "qcow2", "-O", "raw"}, best...), atLeast: 1},
	}
}

// BenchmarkTmpfs converts in memory, so that the disk is not what is measured. The ratios have to hold here.
func BenchmarkTmpfs(b *testing.B) {
	show("in memory", contestTable(b, "/dev/shm"))
}

// BenchmarkDisk converts on the disk of the temporary folder, whose own limit is shown beside: there it decides. Both sides are done when the result is on
// the disk: v2v flushes by itself, qemu-img and cp do not.
func BenchmarkDisk(b *testing.B) {
	show("on disk, flushed", contestTable(b, ""))
}

func contestTable(b *testing.B, base string) string {
	dir, onDisk := room(b, base), base == ""
	ours, theirs := v2v(b), program(b, "qemu-img", "qemu-utils")
	disk := filepath.Join(dir, "mixed.raw")
	mixed(b, disk, diskSize)
	codec := newCodecs(b, disk)
	if !onDisk {
		warm(b, filepath.Join(dir, "warm"))
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tv2v s\tqemu-img s\tratio\twanted\tsize\tCPU ratio\tMiB/s\tof the codec's limit\tMiB held\t\n")
	for _, c := range contests() {
		src := disk
		if c.source != nil {
			src = filepath.Join(dir, "source")
			measure(b, tool{path: theirs, args: append(append([]string{"convert", "-f", "raw"}, c.source...), disk, src)}, src, 0)
		}
		a, z := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
		us, them := both(b, tool{path: ours, args: append(c.ours, src, a)}, tool{path: theirs, args: append(c.theirs, src, z), flush: onDisk}, a, z)
		row(b, w, c, us, them, float64(size(b, a))/float64(size(b, z)), codec, !onDisk)
		for _, path := range []string{a, z} {
			if err := os.Remove(path); err != nil {
				b.Fatal(err)
			}
		}
	}
	if onDisk {
		fmt.Fprintf(w, "the disk alone: writing and flushing\t%s\t\t\t\t\t\t\t\t\t\n", seconds(diskLimit(b, dir)))
	}
	copyRow(b, w, dir, disk, ours, !onDisk)
	w.Flush()
	return out.String()
}

// warm takes and gives back the memory that the rows will want, so that none of them pays for what a virtual machine's host gives only when it is used.
func warm(b *testing.B, path string) {
	p := make([]byte, mib)
	f, err := os.Create(path)
	for n := 0; err == nil && n < 2*diskSize; n += len(p) {
		_, err = f.Write(p)
	}
	if err := errors.Join(err, f.Close(), os.Remove(path)); err != nil {
		b.Fatal(err)
	}
}

func row(b *testing.B, w *tabwriter.Writer, c contest, us, them runs, sizes float64, codec *codecs, judge bool) {
	ratio := them.wall().Seconds() / us.wall().Seconds()
	near := "-"
	if c.limit != nil {
		near = fmt.Sprintf("%.0f %%", 100*c.limit(codec).Seconds()/float64(runtime.GOMAXPROCS(0))/us.wall().Seconds())
	}
	// The process that reads holds memory too; the larger of both was seen, so twice that is the most.
	memory := 2 * us.memory()
	fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%.1f\t%.3f\t%.2f\t%.0f\t%s\t%s\t\n", c.name, seconds(us.wall()), seconds(them.wall()), ratio, c.atLeast, sizes,
		them.cpu().Seconds()/us.cpu().Seconds(), diskSize/mib/us.wall().Seconds(), near, megabytes(memory))
	if memory > maxMemory {
		b.Errorf("%s: %s MiB were held", c.name, megabytes(memory))
	}
	if judge && ratio < c.atLeast {
		b.Errorf("%s: %.2f times as fast as qemu-img, at least %.1f is wanted", c.name, ratio, c.atLeast)
	}
	if judge && c.bigger > 0 && sizes > c.bigger {
		b.Errorf("%s: %.3f times as large as qemu-img's, at most %.2f is wanted", c.name, sizes, c.bigger)
	}
}

// copyRow is the plain copy beside cp.
func copyRow(b *testing.B, w *tabwriter.Writer, dir, disk, ours string, judge bool) {
	a, z := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	us, them := both(b, tool{path: ours, args: []string{"convert", "-q", "-f", "raw", "-O", "raw", disk, a}},
		tool{path: program(b, "cp", "coreutils"), args: []string{disk, z}, flush: !judge}, a, z)
	ratio := them.wall().Seconds() / us.wall().Seconds()
	fmt.Fprintf(w, "raw -> raw, beside cp\t%s\t%s\t%.2f\t1.0\t\t%.2f\t%.0f\t-\t%s\t\n", seconds(us.wall()), seconds(them.wall()), ratio,
		them.cpu().Seconds()/us.cpu().Seconds(), diskSize/mib/us.wall().Seconds(), megabytes(2*us.memory()))
	if judge && ratio < 1 {
		b.Errorf("a plain copy: %.2f times as fast as cp", ratio)
	}
}

// diskLimit is how long the disk takes for what the mixed disk has, written and flushed by one writer.
func diskLimit(b *testing.B, dir string) time.Duration {
	var all runs
	for range rounds {
		path := filepath.Join(dir, "limit")
		began := time.Now()
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		p := make([]byte, mib)
		for i := range p {
			p[i] = byte(i * 7)
		}
		for range diskSize / mib * 69 / 100 {
			if _, err := f.Write(p); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		f.Close()
		all = append(all, run{wall: time.Since(began)})
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}
	}
	return all.wall()
}

// BenchmarkScaling runs compressions on one core and on two.
func BenchmarkScaling(b *testing.B) {
	if runtime.NumCPU() < 2 {
		b.Fatal("this machine has one core: there is nothing to scale to")
	}
	program(b, "taskset", "util-linux")
	dir := room(b, "/dev/shm")
	disk := filepath.Join(dir, "mixed.raw")
	mixed(b, disk, diskSize/2)
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\t1 core s\t2 cores s\ttimes\t\n")
	for _, c := range contests() {
		if c.source != nil || c.limit == nil {
			continue
		}
		dst := filepath.Join(dir, "out")
		var one, two runs
		for range rounds {
			one = append(one, measure(b, tool{path: v2v(b), args: append(c.ours, disk, dst)}, dst, 1))
			two = append(two, measure(b, tool{path: v2v(b), args: append(c.ours, disk, dst)}, dst, 2))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t\n", c.name, seconds(one.wall()), seconds(two.wall()), one.wall().Seconds()/two.wall().Seconds())
	}
	w.Flush()
	show("on one core and on two", out.String())
}

// BenchmarkSparse converts 2 TiB with 1 GiB of data: it may take what the data take, and not what the holes would.
func BenchmarkSparse(b *testing.B) {
	dir := room(b, "/dev/shm")
	disk, wide := filepath.Join(dir, "mixed.raw"), filepath.Join(dir, "sparse.raw")
	mixed(b, disk, diskSize)
	sparse(b, disk, wide)
	args := func(src, dst string) []string { return []string{"convert", "-q", "-f", "raw", "-O", "qcow2", src, dst} }
	a, z := filepath.Join(dir, "dense"), filepath.Join(dir, "wide")
	dense, spread := both(b, tool{path: v2v(b), args: args(disk, a)}, tool{path: v2v(b), args: args(wide, z)}, a, z)
	them := measure(b, tool{path: program(b, "qemu-img", "qemu-utils"), args: []string{"convert", "-f", "raw", "-O", "qcow2", "-m", "4", "-W", wide, z}}, z, 0)
	times := spread.wall().Seconds() / dense.wall().Seconds()
	b.Logf("1 GiB: %s s; spread over 2 TiB: %s s, %.2f times as long (qemu-img: %s s); %s MiB held", seconds(dense.wall()), seconds(spread.wall()), times,
		seconds(them.wall), megabytes(2*spread.memory()))
	if times > 3 {
		b.Errorf("the holes cost %.2f times what the data cost", times)
	}
	if 2*spread.memory() > maxMemory {
		b.Errorf("%s MiB were held", megabytes(2*spread.memory()))
	}
}
