package luks

import (
	"context"
	"errors"
)

// Failure is an error on its way from one process to another.
type Failure struct {
	Kind    string        `json:"kind"` // the Code of the error; "" for one that has no type
	Text    string        `json:"text"`
	NeedKiB uint64        `json:"needKiB,omitempty"`
	HaveKiB uint64        `json:"haveKiB,omitempty"`
	Keys    int           `json:"keys,omitempty"`
	Slots   []SlotFailure `json:"slots,omitempty"`
}

// SlotFailure is a SlotError on its way.
type SlotFailure struct {
	Slot    int     `json:"slot"`
	Key     int     `json:"key"`
	Failure Failure `json:"failure"`
}

const wrongKey = "wrong-key"

func failureOf(err error) *Failure {
	f := &Failure{Text: err.Error()}
	if e, ok := errors.AsType[*NoMatchingKeyError](err); ok { // first: it holds others
		f.Kind, f.Keys = e.Code(), e.Keys
		for _, slot := range e.Slots {
			f.Slots = append(f.Slots, SlotFailure{slot.Slot, slot.Key, *failureOf(slot.Err)})
		}
	} else if e, ok := errors.AsType[*NotLUKSError](err); ok {
		f.Kind, f.Text = e.Code(), e.Found
	} else if e, ok := errors.AsType[*DamagedError](err); ok {
		f.Kind, f.Text = e.Code(), e.How
	} else if e, ok := errors.AsType[*UnsupportedError](err); ok {
		f.Kind, f.Text = e.Code(), e.What
	} else if e, ok := errors.AsType[*TooCostlyError](err); ok {
		f.Kind, f.NeedKiB, f.HaveKiB = e.Code(), e.NeedKiB, e.HaveKiB
	} else if e, ok := errors.AsType[*UnfinishedError](err); ok {
		f.Kind, f.Text = e.Code(), e.Doing
	} else if errors.Is(err, ErrWrongKey) {
		f.Kind = wrongKey
	}
	return f
}

// Err is the error again, with its type.
func (f *Failure) Err() error {
	switch f.Kind {
	case (*NoMatchingKeyError)(nil).Code():
		e := &NoMatchingKeyError{Keys: f.Keys}
		for _, slot := range f.Slots {
			e.Slots = append(e.Slots, &SlotError{slot.Slot, slot.Key, slot.Failure.Err()})
		}
		return e
	case (*NotLUKSError)(nil).Code():
		return &NotLUKSError{f.Text}
	case (*DamagedError)(nil).Code():
		return &DamagedError{f.Text}
	case (*UnsupportedError)(nil).Code():
		return &UnsupportedError{f.Text}
	case (*TooCostlyError)(nil).Code():
		return &TooCostlyError{f.NeedKiB, f.HaveKiB}
	case (*UnfinishedError)(nil).Code():
		return &UnfinishedError{Doing: f.Text, Err: context.DeadlineExceeded}
	case wrongKey:
		return ErrWrongKey
	}
	return errors.New(f.Text)
}
