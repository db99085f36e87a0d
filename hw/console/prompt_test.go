package console

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type result struct {
	text, at string
	err      error
}

// ask prompts at all terminals in the background.
func ask(ctx context.Context, wait time.Duration, people ...*typist) <-chan result {
	var files []*os.File
	for _, p := range people {
		files = append(files, p.tty)
	}
	got := make(chan result, 1)
	go func() {
		a, err := askAll(ctx, files, Asking{Question: "Passphrase for tank0"}, wait)
		r := result{at: a.Console, err: err}
		if err == nil {
			r.text = string(a.Secret.Bytes())
			a.Secret.Destroy()
		}
		got <- r
	}()
	return got
}

const question = "Passphrase for tank0: "

func wantAnswer(t *testing.T, got <-chan result, text string, from *typist) {
	t.Helper()
	select {
	case r := <-got:
		if r.err != nil {
			t.Fatal(r.err)
		}
		if r.text != text || r.at != from.tty.Name() {
			t.Errorf("got an answer of %d bytes from %s, want the %d bytes typed at %s", len(r.text), r.at, len(text), from.tty.Name())
		}
	case <-time.After(hang):
		t.Fatal("no answer")
	}
}

func TestTheFirstAnswerWinsAndNothingIsEchoed(t *testing.T) {
	a, b := newTypist(t), newTypist(t)
	before := b.settings()
	got := ask(t.Context(), hang, a, b)
	a.sees(question)
	b.sees(question)
	a.types("half an answer")
	b.types("wrong\x15opem\x7fn sesame\r")
	wantAnswer(t, got, "open sesame", b)
	if echo := strings.Trim(b.sees("\n"), "\r\n"); echo != "" {
		t.Errorf("the answering terminal shows %q, want an end of line only", echo)
	}
	if got, want := a.sees(")\r\n"), "(answered at "; !strings.HasPrefix(strings.TrimLeft(got, "\r\n"), want) {
		t.Errorf("the other terminal shows %q, want %q…", got, want)
	}
	if diff := cmp.Diff(before, b.settings()); diff != "" {
		t.Errorf("settings of the terminal (-before +after):\n%s", diff)
	}
}

func TestAnEmptyLineAsksAgain(t *testing.T) {
	p := newTypist(t)
	got := ask(t.Context(), hang, p)
	p.sees(question)
	p.types("\r")
	p.sees(question)
	p.types("now\r")
	wantAnswer(t, got, "now", p)
}

func TestWhatIsPastedForTheNextQuestionStaysThere(t *testing.T) {
	p := newTypist(t)
	got := ask(t.Context(), hang, p)
	p.sees(question)
	p.types("first\rsecond\r")
	wantAnswer(t, got, "first", p)
	wantAnswer(t, ask(t.Context(), hang, p), "second", p)
}

func TestAPasteMayEndItsLinesWithCRAndLF(t *testing.T) {
	p := newTypist(t)
	got := ask(t.Context(), hang, p)
	p.sees(question)
	p.types("first\r\nsecond\r\nthird\nfourth\r\n")
	for _, want := range []string{"first", "second", "third", "fourth"} {
		wantAnswer(t, got, want, p)
		if want != "fourth" {
			got = ask(t.Context(), hang, p)
		}
	}
}

func TestAnEmptyLineAndTypingAreHeard(t *testing.T) {
	p := newTypist(t)
	empty, typing := make(chan struct{}, 8), make(chan struct{}, 8)
	got := make(chan result, 1)
	go func() {
		a, err := Ask(t.Context(), []*os.File{p.tty}, Asking{
			Question: "Passphrase for tank0", Empty: func() { empty <- struct{}{} }, Typing: func() { typing <- struct{}{} },
		})
		r := result{at: a.Console, err: err}
		if err == nil {
			r.text = string(a.Secret.Bytes())
			a.Secret.Destroy()
		}
		got <- r
	}()
	p.sees(question)
	p.types("\r")
	p.sees(question)
	<-empty
	p.types("now\r")
	wantAnswer(t, got, "now", p)
	<-typing
}

func TestALongPasteArrivesWhole(t *testing.T) {
	p := newTypist(t)
	got := ask(t.Context(), hang, p)
	p.sees(question)
	long := strings.Repeat("0123456789abcdef", maxAnswer/16)
	p.types(long[:2000]) // the driver's own buffer holds 4095 bytes
	p.types(long[2000:])
	p.types("\r")
	wantAnswer(t, got, long, p)
}

func TestTooLongAnAnswerIsRefusedAndNotCutShort(t *testing.T) {
	p := newTypist(t)
	got := ask(t.Context(), hang, p)
	p.sees(question)
	p.types(strings.Repeat("y", 3000))
	p.types(strings.Repeat("y", 3000))
	p.types("\r")
	p.sees("longer than 4096 bytes.")
	p.types("short\r")
	wantAnswer(t, got, "short", p)
}

func TestAStoppedTerminalHoldsNobodyUp(t *testing.T) {
	stopped, p := newTypist(t), newTypist(t)
	stopped.stop()
	got := ask(t.Context(), hang, stopped, p)
	p.sees(question)
	p.types("through\r")
	wantAnswer(t, got, "through", p)
}

func TestATerminalThatHangsUpLeavesTheOthers(t *testing.T) {
	gone, p := newTypist(t), newTypist(t)
	got := ask(t.Context(), hang, gone, p)
	gone.sees(question)
	p.sees(question)
	gone.master.Close()
	p.types("still here\r")
	wantAnswer(t, got, "still here", p)
}

func TestWhenAllTerminalsHangUpThereIsNoConsole(t *testing.T) {
	p := newTypist(t)
	got := ask(t.Context(), hang, p)
	p.sees(question)
	p.master.Close()
	if r := <-got; !errors.Is(r.err, ErrNoConsole) {
		t.Errorf("got %v, want ErrNoConsole", r.err)
	}
}

func TestCancellingEndsTheQuestionEvenWhileSomebodyTypes(t *testing.T) {
	p := newTypist(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	got := ask(ctx, hang, p)
	p.sees(question)
	p.types("half")
	fed := errors.New("the key came by another way")
	cancel(fed)
	if r := <-got; !errors.Is(r.err, fed) {
		t.Errorf("got %v, want %v", r.err, fed)
	}
	p.sees("(no answer is needed any more)")
}

func TestADeadlineDoesNotCutOffWhoeverIsTyping(t *testing.T) {
	p := newTypist(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	p.types("I am ")
	got := ask(ctx, hang, p)
	p.sees(question)
	<-ctx.Done()
	p.types("slow\r")
	wantAnswer(t, got, "I am slow", p)
}

func TestADeadlineEndsAQuestionThatNobodyAnswers(t *testing.T) {
	p := newTypist(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if r := <-ask(ctx, hang, p); !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", r.err)
	}
}

func TestADeadlineEndsALineThatSomebodyLeft(t *testing.T) {
	p := newTypist(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	p.types("half a line")
	if r := <-ask(ctx, time.Millisecond, p); !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", r.err)
	}
}

func TestWhereNobodyCanBeAskedTheErrorSaysWhy(t *testing.T) {
	if _, err := Prompt(t.Context(), nil, "Anybody"); !errors.Is(err, ErrNoConsole) {
		t.Errorf("without consoles: got %v, want ErrNoConsole", err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := Prompt(t.Context(), []*os.File{null}, "Anybody"); !errors.Is(err, ErrNoConsole) || !strings.Contains(err.Error(), "/dev/null: no terminal answers there") {
		t.Errorf("with /dev/null: got %v, want ErrNoConsole and the reason", err)
	}
}

func TestATerminalIsKnownByItsAnswer(t *testing.T) {
	p := newTypist(t)
	got := make(chan bool, 1)
	go func() {
		ok, err := Answers(t.Context(), p.tty, hang)
		if err != nil {
			t.Error(err)
		}
		got <- ok
	}()
	p.sees("\x1b[5n")
	p.types("x\x1b[0n")
	if !<-got {
		t.Error("got no, want yes")
	}
	if ok, err := Answers(t.Context(), newTypist(t).tty, time.Millisecond); ok || err != nil {
		t.Errorf("of a terminal that is silent: got %v, %v; want no", ok, err)
	}
}

func TestSaneRepairsWhatAKilledPromptLeft(t *testing.T) {
	p := newTypist(t)
	before := p.settings()
	left, err := openTerminal(p.tty)
	if err != nil {
		t.Fatal(err)
	}
	left.close() // without restore
	if p.settings().Lflag == before.Lflag {
		t.Fatal("a prompt changed nothing: this test checks nothing")
	}
	if err := Sane(p.tty); err != nil {
		t.Fatal(err)
	}
	if got := p.settings().Lflag; got != before.Lflag {
		t.Errorf("local modes: got %o, want %o", got, before.Lflag)
	}
}

func TestWhatIsPastedBetweenTwoQuestionsIsNotShown(t *testing.T) {
	p := newTypist(t)
	if err := Hush(p.tty); err != nil {
		t.Fatal(err)
	}
	got := ask(t.Context(), hang, p)
	p.sees(question)
	p.types("first\r")
	wantAnswer(t, got, "first", p)
	p.types("second\r\n")
	got = ask(t.Context(), hang, p)
	if shown := p.sees(question); strings.Contains(shown, "second") {
		t.Errorf("the terminal shows %q", shown)
	}
	wantAnswer(t, got, "second", p)
	if err := Sane(p.tty); err != nil {
		t.Fatal(err)
	}
	p.types("seen\r")
	p.sees("seen")
}
