package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	mib = 1 << 20
	// diskSize is the virtual size of what is converted, in bytes.
	diskSize = 1 << 30
	// rounds is how often each side runs; the median counts.
	rounds = 3
	// maxMemory is what a conversion may hold, in bytes, the process that reads the image included.
	maxMemory = 300 * mib
)

// tool is a program to be measured.
type tool struct {
	path string
	args []string
	// flush: it leaves its target in the kernel's memory, and is done when the target is on the disk.
	flush bool
}

// run is what one run of a program cost.
type run struct {
	wall, cpu time.Duration
	memory    int64 // the largest of its processes, in bytes
}

// measure runs a program after removing its target, on the given number of cores (0: all).
func measure(b *testing.B, t tool, target string, cores int) run {
	b.Helper()
	if err := os.RemoveAll(target); err != nil {
		b.Fatal(err)
	}
	args := append([]string{t.path}, t.args...)
	if cores > 0 {
		args = append([]string{"taskset", "-c", fmt.Sprintf("0-%d", cores-1)}, args...)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), self, args...)
	cmd.Env = append(os.Environ(), launcher+"=1")
	if t.flush {
		cmd.Env = append(cmd.Env, flushed+"="+target)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %v\n%s", args, err, out)
	}
	var r run
	if _, err := fmt.Sscan(string(out), (*int64)(&r.wall), (*int64)(&r.cpu), &r.memory); err != nil {
		b.Fatalf("%v: %v\n%s", args, err, out)
	}
	return r
}

// launcher is set in a process that only starts what is measured: what a process holds at a fork counts as its child's, and this one holds disks.
const launcher = "V2V_BENCH_LAUNCH"

// flushed names a file that such a process flushes to the disk at the end, which counts.
const flushed = "V2V_BENCH_FLUSH"

func TestMain(m *testing.M) {
	if os.Getenv(launcher) == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err == nil {
		err = flush(os.Getenv(flushed))
	}
	wall := time.Since(began)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		os.Exit(1)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	fmt.Println(wall.Nanoseconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Nanoseconds(), usage.Maxrss<<10)
	os.Exit(0)
}

func flush(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// runs are rounds of one side.
type runs []run

func (r runs) wall() time.Duration {
	return median(r, func(x run) time.Duration { return x.wall })
}

func (r runs) cpu() time.Duration {
	return median(r, func(x run) time.Duration { return x.cpu })
}

func (r runs) memory() int64 {
	var most int64
	for _, x := range r {
		most = max(most, x.memory)
	}
	return most
}

func median(r runs, of func(run) time.Duration) time.Duration {
	var all []time.Duration
	for _, x := range r {
		all = append(all, of(x))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// side by side, round by round, so that a busy machine is busy for both.
func both(b *testing.B, ours, theirs tool, oursTo, theirsTo string) (us, them runs) {
	b.Helper()
	for range rounds {
		us = append(us, measure(b, ours, oursTo, 0))
		them = append(them, measure(b, theirs, theirsTo, 0))
	}
	return us, them
}

func program(b *testing.B, name, pkg string) string {
	b.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		b.Fatalf("%s is missing: install the Debian package %s", name, pkg)
	}
	return path
}

func v2v(b *testing.B) string {
	b.Helper()
	path, err := filepath.Abs("../../out/bin/v2v")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		b.Fatalf("run make build first: %v", err)
	}
	return path
}

// room makes a folder below base and removes it at the end.
func room(b *testing.B, base string) string {
	b.Helper()
	dir, err := os.MkdirTemp(base, "v2v-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func size(b *testing.B, path string) int64 {
	b.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		b.Fatal(err)
	}
	return min(st.Size, st.Blocks*512)
}

// show prints a table; what a benchmark logs is cut after ten lines.
func show(title, table string) { fmt.Printf("\n%s\n%s\n", title, table) }

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) }

func megabytes(n int64) string { return strconv.FormatInt(n/mib, 10) }
