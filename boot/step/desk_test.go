package step

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/luks"
	"initd/hw/secret"
)

// hang is a guard, never a measure.
const hang = time.Minute

// room is people at a console and volumes that open with what they know: the
// children prompt and luks-open.
type room struct {
	t         *testing.T
	answers   chan string       // what somebody types
	opens     map[string]string // by volume
	mu        sync.Mutex
	questions []string   // guarded by mu
	tries     [][]string // guarded by mu: the volumes of each call of luks-open
}

func (r *room) Run(ctx context.Context, c Call) (Reply, error) {
	switch c.Func {
	case "prompt":
		r.mu.Lock()
		r.questions = append(r.questions, c.Params.(string))
		r.mu.Unlock()
		select {
		case answer := <-r.answers:
			c.Progress(ChildProgress{Done: true, Files: []*os.File{seal(r.t, answer)}})
			return Reply{}, nil
		case <-ctx.Done():
			return Reply{}, context.Cause(ctx)
		}
	case "luks-open":
		var names []string
		for i, p := range c.Params.([]openParams) {
			names = append(names, p.Name)
			key, err := io.ReadAll(io.NewSectionReader(c.Files[p.Key], 0, 1<<10))
			if err != nil {
				return Reply{}, err
			}
			m := ChildProgress{Index: i, Done: true, Result: json.RawMessage("{}")}
			if string(key) != r.opens[p.Name] {
				m.Error, m.Result = AsChildError(&luks.NoMatchingKeyError{Keys: 1}), nil
			}
			c.Progress(m)
		}
		r.mu.Lock()
		r.tries = append(r.tries, names)
		r.mu.Unlock()
		return Reply{}, nil
	}
	return Reply{}, errors.New("no such child: " + c.Func)
}

func (r *room) Free(context.Context, string) error { return nil }

func seal(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := secret.Seal("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// unlock waits for people to open a volume, in the background.
func (r *room) unlock(ctx context.Context, d *Deps, name string) <-chan error {
	done := make(chan error, 1)
	a := &luksAction{deps: d}
	u := &plan.Unit{ID: "luks/" + name}
	s := luksSpec{Name: name, Prompt: "Passphrase for " + name}
	before := len(d.Desk.Waiting())
	go func() { done <- a.byPeople(ctx, u, s, openParams{Name: name}, func(engine.Progress) {}) }()
	until(r.t, func() bool { return len(d.Desk.Waiting()) > before })
	return done
}

func until(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); !is(); {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
		<-time.After(time.Millisecond)
	}
}

func isOpen(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(hang):
		t.Fatal("it is not opened")
	}
}

func newRoom(t *testing.T, opens map[string]string) (*room, *Deps) {
	r := &room{t: t, answers: make(chan string), opens: opens}
	return r, &Deps{Children: r, Keys: NewKeyStore(nil), Desk: NewDesk(), Note: func(s string) { t.Error(s) }}
}

func TestOneAnswerOpensAllThatAcceptItAndAWrongOneIsAskedAgain(t *testing.T) {
	r, d := newRoom(t, map[string]string{"a": "one", "b": "two", "c": "one"})
	a := r.unlock(t.Context(), d, "a")
	b := r.unlock(t.Context(), d, "b")
	c := r.unlock(t.Context(), d, "c")
	r.answers <- "three"
	r.answers <- "two" // b's, at a's question
	isOpen(t, b)
	r.answers <- "one"
	isOpen(t, a)
	isOpen(t, c)
	want := []string{"Passphrase for a", "That did not open a. Passphrase for a", "That did not open a. Passphrase for a"}
	if diff := cmp.Diff(want, r.questions); diff != "" {
		t.Errorf("questions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]string{{"a", "b", "c"}, {"a", "b", "c"}, {"a", "c"}}, r.tries); diff != "" {
		t.Errorf("tries (-want +got):\n%s", diff)
	}
	for _, name := range []string{"a", "b", "c"} {
		if d.Keys.Has(name) {
			t.Errorf("the key of %s is still kept", name)
		}
	}
	if left := d.Desk.Waiting(); len(left) > 0 {
		t.Errorf("%v wait still", left)
	}
}

func TestAFedKeyEndsItsQuestionAndTheNextOneComesUp(t *testing.T) {
	r, d := newRoom(t, map[string]string{"a": "one", "b": "two"})
	a := r.unlock(t.Context(), d, "a")
	b := r.unlock(t.Context(), d, "b")
	until(t, func() bool { return r.asked("Passphrase for a") })
	if err := d.Keys.Put("a", seal(t, "wrong")); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return r.asked("That did not open a. Passphrase for a") || r.asked("Passphrase for b") })
	if err := d.Keys.Put("a", seal(t, "one")); err != nil {
		t.Fatal(err)
	}
	isOpen(t, a)
	r.answers <- "two"
	isOpen(t, b)
}

func (r *room) asked(question string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.questions, question)
}

func TestWhoeverHoldsTheDeskHasTheKeyboardAndTheFirstIsAskedNext(t *testing.T) {
	r, d := newRoom(t, map[string]string{"a": "one", "b": "two"})
	a := r.unlock(t.Context(), d, "a")
	b := r.unlock(t.Context(), d, "b")
	until(t, func() bool { return r.asked("Passphrase for a") })
	release := d.Desk.Hold()
	f := make(chan string, 1)
	go func() {
		got, err := d.Desk.Ask(t.Context(), r, "menu", "Key for z")
		if err != nil {
			f <- err.Error()
			return
		}
		defer got.Close()
		text, _ := io.ReadAll(io.NewSectionReader(got, 0, 1<<10))
		f <- string(text)
	}()
	until(t, func() bool { return r.asked("Key for z") })
	r.answers <- "of the menu"
	if got := <-f; got != "of the menu" {
		t.Errorf("the menu got %q", got)
	}
	if !d.Desk.First("b") || d.Desk.First("z") {
		t.Error("First knows not who waits")
	}
	release()
	until(t, func() bool { return r.asked("Passphrase for b") })
	r.answers <- "two"
	isOpen(t, b)
	r.answers <- "one"
	isOpen(t, a)
	if !strings.HasPrefix(strings.Join(r.questions, "|"), "Passphrase for a|Key for z|Passphrase for b|") {
		t.Errorf("questions: %q", r.questions)
	}
}

func TestAnAttemptThatEndsLeavesTheDesk(t *testing.T) {
	r, d := newRoom(t, map[string]string{"a": "one", "b": "two"})
	ctx, cancel := context.WithCancelCause(t.Context())
	a := r.unlock(ctx, d, "a")
	b := r.unlock(t.Context(), d, "b")
	skipped := errors.New("skipped")
	cancel(skipped)
	if err := <-a; !errors.Is(err, skipped) {
		t.Errorf("got %v, want %v", err, skipped)
	}
	r.answers <- "two"
	isOpen(t, b)
}
