package console

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

func TestAKeyCountsAtEveryConsoleAndTextShowsOnAll(t *testing.T) {
	a, b := newTypist(t), newTypist(t)
	before := a.settings()
	board, err := NewBoard([]*os.File{a.tty, b.tty})
	if err != nil {
		t.Fatal(err)
	}
	board.Show("r retry\n\x1b[31mk key\nChoose: ")
	for _, p := range []*typist{a, b} {
		if got, want := p.sees("Choose: "), "r retry\r\n?[31mk key\r\nChoose: "; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, tt := range []struct {
		at    *typist
		typed string
		want  string
	}{
		{b, "r", "r"},
		{a, "ks", "ks"},
		{b, "\x1b[Ap", "p"}, // an arrow key before it
		{a, "\r\n", "\r"},
		{a, "\x7f\r", "\r"},
	} {
		tt.at.types(tt.typed)
		for _, want := range []byte(tt.want) {
			got, err := board.Next(t.Context())
			if err != nil || got != want {
				t.Errorf("after %q: got key %q, %v; want %q", tt.typed, got, err, want)
			}
			if got, want := board.At(), tt.at.tty.Name(); got != want {
				t.Errorf("the key was pressed at %s, want %s", got, want)
			}
		}
	}
	ended, end := context.WithCancelCause(t.Context())
	ready := errors.New("ready")
	end(ready)
	if _, err := board.Next(ended); !errors.Is(err, ready) {
		t.Errorf("got %v, want %v", err, ready)
	}
	board.Close()
	if got := a.settings(); got != before {
		t.Errorf("settings of the terminal: got %+v, want %+v", got, before)
	}
}

func TestABoardWithoutConsolesSaysSo(t *testing.T) {
	if _, err := NewBoard(nil); !errors.Is(err, ErrNoConsole) {
		t.Errorf("got %v, want ErrNoConsole", err)
	}
	p := newTypist(t)
	board, err := NewBoard([]*os.File{p.tty})
	if err != nil {
		t.Fatal(err)
	}
	defer board.Close()
	p.master.Close()
	if _, err := board.Next(t.Context()); !errors.Is(err, ErrNoConsole) {
		t.Errorf("got %v, want ErrNoConsole", err)
	}
}

// What the board shows last may meet somebody else's write, or a line that is slow: it is shown nevertheless.
func TestTheLastWordsAreShownAndAStoppedConsoleHoldsNobodyUp(t *testing.T) {
	slow, stopped := newTypist(t), newTypist(t)
	slow.stop()
	stopped.stop()
	board, err := NewBoard([]*os.File{slow.tty, stopped.tty})
	if err != nil {
		t.Fatal(err)
	}
	board.Show("\n(the boot goes on)\n")
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		board.Close()
	}()
	slow.sees("(the boot goes on)")
	select {
	case <-closed:
	case <-time.After(hang):
		t.Fatal("a stopped console holds Close up")
	}
}
