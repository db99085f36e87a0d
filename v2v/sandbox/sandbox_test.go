package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"initd/v2v/file"
	"initd/v2v/image"
)

func input(t *testing.T, content string) *file.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := file.Open(path, file.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

func opened(t *testing.T, format string) *reader {
	t.Helper()
	r, err := Open(t.Context(), input(t, strings.Repeat("x", 1024)), Options{Format: format, Busy: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r.(*reader)
}

func TestTheSameBytesAndMapAsWithoutIt(t *testing.T) {
	r := opened(t, "pattern")
	want := &patterned{size: 64<<20 + 512, unit: 65536}
	if r.Size() != want.Size() || r.Info().Unit != 65536 || r.Info().Format != "pattern" {
		t.Fatalf("size %d, info %+v", r.Size(), r.Info())
	}
	var readers sync.WaitGroup
	for i := range 16 {
		readers.Go(func() {
			off, n := int64(i)*5_000_011, 3_000_000+i
			got, should := make([]byte, n), make([]byte, n)
			gotN, gotErr := r.ReadAt(got, off)
			wantN, wantErr := want.ReadAt(should, off)
			if gotN != wantN || gotErr != wantErr || !bytes.Equal(got, should) {
				t.Errorf("read of %d at %d: %d, %v; want %d, %v", n, off, gotN, gotErr, wantN, wantErr)
			}
		})
	}
	readers.Wait()
	for _, from := range []int64{0, 512, 700, 64 << 20, want.size, want.size + 5} {
		if diff := cmp.Diff(extents(t, want, from), extents(t, r, from)); diff != "" {
			t.Errorf("map from %d (-want +got):\n%s", from, diff)
		}
	}
	if _, err := r.ReadAt(make([]byte, 1), want.size); err != io.EOF {
		t.Errorf("a read at the end: %v", err)
	}
}

func extents(t *testing.T, r image.Reader, from int64) (all []image.Extent) {
	t.Helper()
	for e, err := range r.Extents(from) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestWhatIsLentIsWhatIsRead(t *testing.T) {
	r := opened(t, "pattern")
	for _, tc := range []struct{ off, length int64 }{{0, 1}, {SlotSize - 1, 2}, {5_000_011, 3 * SlotSize}, {r.Size() - 512, 512}, {0, 0}} {
		want := make([]byte, tc.length)
		if _, err := r.ReadAt(want, tc.off); err != nil {
			t.Fatal(err)
		}
		var got []byte
		err := r.Lend(tc.off, tc.length, func(p []byte, off int64) error {
			if off != tc.off+int64(len(got)) {
				t.Errorf("a piece at %d, after %d bytes from %d", off, len(got), tc.off)
			}
			got = append(got, p...)
			return nil
		})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes at %d: %d came, %v", tc.length, tc.off, len(got), err)
		}
	}
	stop := errors.New("enough")
	if err := r.Lend(0, 3*SlotSize, func([]byte, int64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of who looked", err)
	}
	if _, err := r.ReadAt(make([]byte, 512), 0); err != nil {
		t.Errorf("after an error of who looked: %v", err)
	}
}

func TestAHostileImageIsATypedErrorWithItsName(t *testing.T) {
	for _, tc := range []struct{ does, code, says string }{
		{"loops for ever while it opens", CodeBusy, "led nowhere"},
		{"allocates without end", CodeMemory, "more memory"},
		{"recurses without end", CodeMemory, "more memory"},
		{"reads beyond a table", CodeCrash, "index out of range"},
		{"ends itself", CodeCrash, "ended by itself"},
		{"connects", CodeSyscall, "take its reader over"},
		{"cuts the image", CodeSyscall, ""},
		{"signals its parent", CodeSyscall, ""},
		{"traces its parent", CodeSyscall, ""},
		{"answers with garbage", CodeProtocol, ""},
		{"answers too much", CodeProtocol, ""},
		{"answers another slot", CodeProtocol, ""},
		{"answers what was not asked", CodeProtocol, ""},
		{"describes beyond its slot", CodeProtocol, ""},
		{"describes less than nothing", CodeProtocol, ""},
		{"is torn when it says a fault", CodeProtocol, ""},
		{"asks for siblings without end", "too-many-files", ""},
		{"has a negative size", CodeProtocol, ""},
		{"has an odd size", CodeProtocol, ""},
		{"has an odd unit", CodeProtocol, ""},
	} {
		t.Run(tc.does, func(t *testing.T) {
			src := input(t, strings.Repeat("x", 1024))
			busy := time.Minute
			if tc.code == CodeBusy {
				busy = 300 * time.Millisecond
			}
			_, err := Open(t.Context(), src, Options{Format: tc.does, Busy: busy, Memory: 256 << 20})
			wantFault(t, err, tc.code, src.Name(), tc.says)
		})
	}
}

func wantFault(t *testing.T, err error, code, name, says string) {
	t.Helper()
	e, ok := errors.AsType[*image.Error](err)
	if !ok || e.Code != code || e.Image != name || !strings.Contains(e.Error(), says) {
		t.Fatalf("got %v (%#v), want the code %s for %s", err, e, code, name)
	}
	if e.Do == "" && code != "too-many-files" {
		t.Error("it does not say what to do")
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("control characters in %q", err)
	}
}

func TestWhatIsRefusedToTheReader(t *testing.T) {
	for _, does := range []string{"opens a file", "makes a file", "writes to the image", "makes the descriptor blocking", "executes a program"} {
		t.Run(does, func(t *testing.T) {
			_, err := Open(t.Context(), input(t, "x"), Options{Format: does})
			if err == nil {
				t.Fatal("it succeeded")
			}
			if text := err.Error(); !strings.Contains(text, "operation not permitted") && !strings.Contains(text, "bad file descriptor") && !strings.Contains(text, "tried what no reader does") {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := os.Stat("/tmp/v2v-sandbox-was-here"); err == nil {
		t.Error("the file was made")
	}
}

func TestAMapThatLiesIsRefused(t *testing.T) {
	for _, does := range []string{"map: a gap", "map: beyond the end", "map: no length", "map: backwards", "map: an unknown kind",
		"map: an unknown file", "map: a place before all", "map: nothing"} {
		t.Run(does, func(t *testing.T) {
			r := opened(t, does)
			var last error
			for _, err := range r.Extents(0) {
				last = err
			}
			wantFault(t, last, CodeProtocol, r.name, "")
		})
	}
}

func TestAReadThatNeverEnds(t *testing.T) {
	r := opened(t, "loops for ever in a read")
	_, err := r.ReadAt(make([]byte, 512), 0)
	wantFault(t, err, CodeBusy, r.name, "")
	_, err = r.ReadAt(make([]byte, 512), 0)
	wantFault(t, err, CodeBusy, r.name, "")
}

func TestAChildThatHangsUpIsNotWaitedFor(t *testing.T) {
	src := input(t, strings.Repeat("x", 1024))
	_, err := Open(t.Context(), src, Options{Format: "hangs up while it opens", Busy: time.Second})
	wantFault(t, err, CodeProtocol, src.Name(), "nothing any more")
	r := opened(t, "hangs up in a read")
	for range 2 { // the one that it hangs up in, and one behind it
		_, err = r.ReadAt(make([]byte, 512), 0)
		wantFault(t, err, CodeProtocol, r.name, "nothing any more")
	}
}

// A question has an end also where the child takes nothing out of its socket any more.
func TestWhoDoesNotListenIsNotWaitedFor(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	w, err := pollable(os.NewFile(uintptr(pair[0]), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for err == nil {
		err = w.send(message{op: opRead}, -1, 100*time.Millisecond)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAQuestionThatIsTooLongIsAnError(t *testing.T) {
	r := opened(t, "pattern")
	if _, _, _, err := r.ask(t.Context(), message{op: opRead, n: 1, text: make([]byte, maxText+1)}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
}

func TestFurtherFilesComeFromTheParentOrNotAtAll(t *testing.T) {
	src := input(t, "further")
	if err := os.WriteFile(filepath.Join(filepath.Dir(src.Name()), "further"), []byte(strings.Repeat("y", 512)), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), src, Options{Format: "sibling"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil || b[511] != 'y' {
		t.Errorf("read %q, %v", b[:4], err)
	}
	for _, name := range []string{"../further", "/etc/passwd", "missing"} {
		_, err := Open(t.Context(), input(t, name), Options{Format: "sibling"})
		if err == nil {
			t.Errorf("%s was opened", name)
		}
		t.Log(err)
	}
}

func TestTheChildHasNoRightsAndItsParentsName(t *testing.T) {
	r := opened(t, "pattern")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID()))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		got[name] = strings.Join(strings.Fields(value), " ")
	}
	for name, want := range map[string]string{"CapInh": zeros, "CapPrm": zeros, "CapEff": zeros, "CapAmb": zeros, "NoNewPrivs": "1", "Seccomp": "2"} {
		if got[name] != want {
			t.Errorf("%s is %s, want %s", name, got[name], want)
		}
	}
	if os.Geteuid() == 0 {
		if id := "65534 65534 65534 65534"; got["Uid"] != id || got["Gid"] != id || got["Groups"] != "" {
			t.Errorf("ids: %q, %q, %q", got["Uid"], got["Gid"], got["Groups"])
		}
	}
	if want := filepath.Base(os.Args[0]); got["Name"] != want[:min(len(want), 15)] {
		t.Errorf("it is called %s, want %s", got["Name"], want)
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if argv0, _, _ := strings.Cut(string(args), "\x00"); argv0 != os.Args[0] {
		t.Errorf("argv[0] is %s, want %s", argv0, os.Args[0])
	}
	// What the descriptors are is part of the rights.
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", r.PID(), fd.Name()))
		known := []string{"/dev/null", "socket:", "pipe:", "anon_inode:", r.name, "/sys/fs/cgroup"}
		if !slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(to, k) }) {
			t.Errorf("descriptor %s is %s", fd.Name(), to)
		}
	}
}

const zeros = "0000000000000000"

func TestSignalsForTheProgramAreTheParentsAffair(t *testing.T) {
	r := opened(t, "pattern")
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		if err := unix.Kill(r.PID(), s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.ReadAt(make([]byte, 512), 0); err != nil {
		t.Error(err)
	}
	if err := unix.Kill(r.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.gone
	_, err := r.ReadAt(make([]byte, 512), 0)
	wantFault(t, err, CodeKilled, r.name, "killed")
}

func TestTheChildDiesWithItsParent(t *testing.T) {
	src := input(t, strings.Repeat("x", 1024))
	parent := exec.Command("/proc/self/exe")
	parent.Env = append(os.Environ(), "V2V_TEST_PARENT="+src.Name())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	ends := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ends, 60_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("the child lives on: %d, %v", n, err)
		}
		return
	}
}

func TestCancelledWorkEndsTheChild(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the user pressed Ctrl-C")
	src := input(t, strings.Repeat("x", 1024))
	r, err := Open(ctx, src, Options{Format: "pattern"})
	if err != nil {
		t.Fatal(err)
	}
	cancel(why)
	<-r.(*reader).gone
	if _, err := r.ReadAt(make([]byte, 512), 0); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.ReadAt(make([]byte, 512), 0); err == nil {
		t.Error("a closed reader reads")
	}
}

func TestTextsOfAHostileImageStayText(t *testing.T) {
	src := input(t, "x")
	_, err := Open(t.Context(), src, Options{Format: "speaks to the terminal"})
	e, ok := errors.AsType[*image.Error](err)
	if !ok {
		t.Fatal(err)
	}
	if want := "?[2J?root# ?"; e.What != want || e.Code != "x?" {
		t.Errorf("got %q and %q, want %q", e.What, e.Code, want)
	}
}

func TestAStreamIsReadOnce(t *testing.T) {
	feed := func(format string) (*stream, *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenStream(t.Context(), r, "stdin", Options{Format: format})
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		t.Cleanup(func() { s.Close(); w.Close() })
		return s.(*stream), w
	}
	s, w := feed("step")
	go func() {
		for i := range 100 {
			w.Write(bytes.Repeat([]byte{byte(i)}, 512))
		}
		w.Close()
	}()
	for i := range 100 {
		off, data, err := s.Next()
		if err != nil || off != int64(i)*1024 || len(data) != 512 || data[511] != byte(i) {
			t.Fatalf("piece %d: %d, %d bytes, %v", i, off, len(data), err)
		}
	}
	for range 2 {
		if _, _, err := s.Next(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	}
	s, w = feed("lie")
	if _, err := w.Write(make([]byte, 8192)); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, _, err = s.Next()
	}
	wantFault(t, err, CodeProtocol, "stdin", "")
}

func TestAFurtherQuestion(t *testing.T) {
	out, err := Call(t.Context(), input(t, "hello world"), Options{}, "first", []byte("....."))
	if err != nil || string(out) != "hello" {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := Call(t.Context(), input(t, "hello world"), Options{}, "second", nil); err == nil || !strings.Contains(err.Error(), `does not know "second"`) {
		t.Errorf("got %v", err)
	}
}

// FuzzParent: whatever a child says, the parent lives, and texts are clean.
func FuzzParent(f *testing.F) {
	b, _ := message{op: opOpen, failed: true, text: encodeFault(&image.Error{Fault: image.Corrupt, Code: "c", What: "w"})}.encode()
	f.Add(b)
	f.Add(encodeFault(io.EOF))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err == nil {
			again, err := message{op: m.op, failed: m.failed, slot: m.slot, off: m.off, n: m.n, text: m.text}.encode()
			if err == nil && !bytes.Equal(again[headerSize:], b[headerSize:]) {
				t.Error("the text changed")
			}
		}
		if err := decodeFault(b, "disk"); err == nil || strings.ContainsAny(err.Error(), "\n\x1b\r") {
			t.Errorf("got %q", err)
		}
		if len(b) >= extentSize {
			_ = getExtent(b)
		}
	})
}
