package wire

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func connected(t *testing.T) (a, b *Conn, other int) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	b, err = NewConn(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b, fd
}

func TestRecordsAndDescriptorsArriveTogether(t *testing.T) {
	a, b, _ := connected(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := Record{1, 3, &Store{Name: "pipe"}}
	if err := a.Send(want, int(w.Fd()), int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got, fds, err := b.Receive()
	if err != nil || len(fds) != 2 {
		t.Fatalf("got %d descriptors, %v", len(fds), err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the descriptor survives an exec: flags %d, %v", flags, err)
	}
	unix.Write(fds[0], []byte("x"))
	CloseAll(fds)
	if all, err := io.ReadAll(r); err != nil || string(all) != "x" {
		t.Errorf("through the pipe came %q, %v", all, err)
	}
}

func TestGarbageDoesNotEndTheConnection(t *testing.T) {
	a, b, fd := connected(t)
	if err := unix.Sendmsg(fd, make([]byte, RecordSize+100), nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(Record{Seq: 1, Message: &List{}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Receive(); !errors.Is(err, ErrNotRecord) {
		t.Fatalf("garbage: got %v", err)
	}
	if r, _, err := a.Receive(); err != nil || r.Message.Op() != OpList {
		t.Fatalf("after garbage: got %v, %v", r, err)
	}
	b.Close()
	if _, _, err := a.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the other side is gone: got %v", err)
	}
}

func TestCloseEndsAReceive(t *testing.T) {
	a, _, _ := connected(t)
	done := make(chan error)
	go func() {
		_, _, err := a.Receive()
		done <- err
	}()
	a.Close()
	if err := <-done; err == nil {
		t.Error("got no error")
	}
}
