package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"
)

const plain = "correct horse battery staple"

func buffer(t *testing.T, text string) *Buffer {
	t.Helper()
	b, err := From([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Destroy)
	return b
}

func TestNoWayOfPrintingShowsTheSecret(t *testing.T) {
	b := buffer(t, plain)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "value", b, "copy", *b)
	nested := struct {
		Key  *Buffer
		Copy Buffer
		List []*Buffer
	}{b, *b, []*Buffer{b}}
	for name, got := range map[string]string{
		"String":         b.String(),
		"GoString":       fmt.Sprintf("%#v", b),
		"%v":             fmt.Sprintf("%v", b),
		"%s":             fmt.Sprintf("%s", b),
		"%x":             fmt.Sprintf("%x", b),
		"%d":             fmt.Sprintf("%d", b),
		"%q of a copy":   fmt.Sprintf("%q", *b),
		"%+v of a copy":  fmt.Sprintf("%+v", *b),
		"within structs": fmt.Sprintf("%+v %#v", nested, nested),
		"an error":       fmt.Errorf("open: %v", b).Error(),
		"a log line":     log.String(),
	} {
		if !strings.Contains(got, redacted) || strings.Contains(got, plain) || strings.Contains(got, "636f7272") {
			t.Errorf("%s gives %q", name, got)
		}
	}
}

func TestASecretCannotBeMarshalled(t *testing.T) {
	b := buffer(t, plain)
	for name, marshal := range map[string]func(any) ([]byte, error){"JSON": json.Marshal, "YAML": yaml.Marshal} {
		for _, v := range []any{b, *b, map[string]*Buffer{"a": b}} {
			out, err := marshal(v)
			if err == nil || bytes.Contains(out, []byte(plain)) {
				t.Errorf("%s of %T gives %q, %v", name, v, out, err)
			}
		}
	}
	if _, err := b.MarshalText(); !errors.Is(err, ErrMarshal) {
		t.Errorf("text gives %v", err)
	}
}

func TestFromWipesItsSourceAndDestroyTheBuffer(t *testing.T) {
	source := []byte(plain)
	b, err := From(source)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(source, make([]byte, len(plain))) {
		t.Errorf("the source still holds %q", source)
	}
	if string(b.Bytes()) != plain || b.Len() != len(plain) {
		t.Errorf("got %q", b.Bytes())
	}
	b.Destroy()
	b.Destroy()
	if b.Bytes() != nil || b.Len() != 0 {
		t.Error("a destroyed buffer still has bytes")
	}
	var none *Buffer
	none.Destroy()
	if none.Len() != 0 || none.Equal(b) || b.Equal(b) {
		t.Error("nothing equals a buffer without content")
	}
}

func TestDestroyLeavesNoCopyInTheProcess(t *testing.T) {
	mark := bytes.Repeat([]byte{0}, 32) // not on the stack, of which growing leaves a copy
	for i := range mark {               // not in the binary, and in memory only as computed here
		mark[i] = byte(i*37 + os.Getpid())
	}
	inverse := make([]byte, len(mark)) // what is searched for, in a form that does not match itself
	for i := range mark {
		inverse[i] = ^mark[i]
	}
	b, err := From(mark)
	if err != nil {
		t.Fatal(err)
	}
	if n := occurrences(t, inverse); n != 1 {
		t.Errorf("%d copies while it lives, want 1", n)
	}
	b.Destroy()
	if n := occurrences(t, inverse); n != 0 {
		t.Errorf("%d copies after Destroy", n)
	}
}

// occurrences counts places in this process's writable memory that hold the inverse of pattern.
func occurrences(t *testing.T, inverse []byte) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	chunk, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(chunk)
	count := 0
	for line := range strings.SplitSeq(string(maps), "\n") {
		var from, to int64
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += int64(len(chunk)) {
			size := min(int64(len(chunk)), to-at)
			n, err := mem.ReadAt(chunk[:size], at)
			if err != nil {
				continue // a guard page
			}
			for i := range n - len(inverse) + 1 {
				if matches(chunk[i:n], inverse) && at+int64(i) != 0 {
					count++
				}
			}
			clear(chunk)
		}
	}
	return count
}

func matches(text, inverse []byte) bool {
	for i, b := range inverse {
		if text[i] != ^b {
			return false
		}
	}
	return true
}

func TestThePagesAreLockedAndLeftOutOfDumps(t *testing.T) {
	b := buffer(t, plain)
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	start := fmt.Sprintf("%x-", addressOf(b.Bytes()))
	_, entry, found := strings.Cut(string(smaps), start)
	if !found {
		t.Fatalf("no mapping starts at %s", start)
	}
	_, flags, _ := strings.Cut(entry, "VmFlags:")
	flags, _, _ = strings.Cut(flags, "\n")
	for flag, meaning := range map[string]string{"lo": "locked", "dd": "not dumped", "wf": "wiped on fork"} {
		if !strings.Contains(flags+" ", " "+flag+" ") {
			t.Errorf("the mapping is not %s: flags %s", meaning, flags)
		}
	}
}

func TestReadBounds(t *testing.T) {
	for _, row := range []struct {
		name, in, want string
		limit          int
	}{
		{"exactly as long as the limit is read", "12345", "", 5},
		{"one byte more is refused", "123456", "longer than 5 bytes", 5},
		{"nothing is refused", "", "empty", 5},
		{"a limit of nothing is refused", "1", "limit 0", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, err := Read(strings.NewReader(row.in), row.limit)
			if row.want == "" {
				if err != nil || string(b.Bytes()) != row.in {
					t.Fatalf("got %v, %v", b, err)
				}
				b.Destroy()
			} else if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func TestASealedMemfdTravelsAndCannotBeChanged(t *testing.T) {
	file, err := Seal("key", []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("a write gives %v", err)
	}
	if err := file.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("a truncation gives %v", err)
	}
	for range 2 { // it may be read again
		b, err := Open(file, 100)
		if err != nil {
			t.Fatal(err)
		}
		if string(b.Bytes()) != plain {
			t.Errorf("got %q", b.Bytes())
		}
		if other := buffer(t, plain); !b.Equal(other) {
			t.Error("the same secret is not equal")
		}
		b.Destroy()
	}
	if _, err := Open(file, len(plain)-1); err == nil {
		t.Error("a secret over the limit was read")
	}
}

func TestOpenRefusesWhatItsSenderCouldStillChange(t *testing.T) {
	fd, err := unix.MemfdCreate("open", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	memfd := os.NewFile(uintptr(fd), "open")
	regular, err := os.Create(t.TempDir() + "/key")
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]*os.File{"an unsealed memfd": memfd, "a regular file": regular} {
		defer file.Close()
		if _, err := file.WriteString(plain); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(file, 100); !errors.Is(err, ErrNotSealed) {
			t.Errorf("%s gives %v", name, err)
		}
	}
}
