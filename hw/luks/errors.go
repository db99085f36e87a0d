package luks

import (
	"errors"
	"fmt"
	"strings"
)

// NotLUKSError says that there is no LUKS header. Found is what there is instead, as far as it is known.
type NotLUKSError struct{ Found string }

func (e *NotLUKSError) Error() string {
	if e.Found == "" {
		return "not a LUKS device"
	}
	return "not a LUKS device: " + e.Found
}
func (*NotLUKSError) Code() string    { return "LUKS-NOT-LUKS" }
func (*NotLUKSError) Retryable() bool { return false }
func (*NotLUKSError) Hint() string {
	return "check that this is the right device; a detached header is named by header:"
}

// DamagedError says that there is a LUKS header and how it is damaged.
type DamagedError struct{ How string }

func (e *DamagedError) Error() string { return "the LUKS header is damaged: " + e.How }
func (*DamagedError) Code() string    { return "LUKS-DAMAGED" }
func (*DamagedError) Retryable() bool { return false }
func (*DamagedError) Hint() string {
	return "try `cryptsetup repair`, or restore a backup with `cryptsetup luksHeaderRestore`"
}

// UnsupportedError says what a sound header asks for that cannot be done here.
type UnsupportedError struct{ What string }

func (e *UnsupportedError) Error() string { return "not supported: " + e.What }
func (*UnsupportedError) Code() string    { return "LUKS-UNSUPPORTED" }
func (*UnsupportedError) Retryable() bool { return false }
func (e *UnsupportedError) Hint() string {
	if strings.Contains(e.What, "encrypt") && strings.Contains(e.What, "anew") {
		return "finish it with `cryptsetup reencrypt --resume-only DEVICE` (LUKS1: `cryptsetup reencrypt DEVICE`, where its log files lie)"
	}
	if strings.HasSuffix(e.What, " for a key slot") {
		return "LUKS2: `cryptsetup luksConvertKey --keyslot-cipher aes-xts-plain64 --keyslot-key-size 512 DEVICE`, where it can be opened; the data stays as it is"
	}
	return "`cryptsetup luksDump DEVICE` shows what it uses"
}

// TooCostlyError says that a key slot asks for more memory than the machine can give. Both are in KiB.
type TooCostlyError struct{ NeedKiB, HaveKiB uint64 }

func (e *TooCostlyError) Error() string {
	return fmt.Sprintf("the key slot's argon2 needs %d MiB of memory, %d MiB can be given", e.NeedKiB/1024, e.HaveKiB/1024)
}
func (*TooCostlyError) Code() string    { return "LUKS-TOO-COSTLY" }
func (*TooCostlyError) Retryable() bool { return true }
func (*TooCostlyError) Hint() string {
	return "free memory, or change the slot with `cryptsetup luksConvertKey --pbkdf-memory`; a random key needs no costly slot"
}

// ErrWrongKey says that one key does not open one slot.
var ErrWrongKey = errors.New("the key does not fit")

// SlotError is why one slot was not opened. Key is the position of the key in the order tried, from 0.
type SlotError struct {
	Slot, Key int
	Err       error
}

func (e *SlotError) Error() string { return fmt.Sprintf("slot %d, key %d: %v", e.Slot, e.Key+1, e.Err) }
func (e *SlotError) Unwrap() error { return e.Err }

// NoMatchingKeyError says that no key opened any slot, with the reason for each that was looked at.
type NoMatchingKeyError struct {
	Keys  int // how many were tried
	Slots []*SlotError
}

func (e *NoMatchingKeyError) Error() string {
	if len(e.Slots) == 0 {
		return "no key matches: the header has no key slot in use"
	}
	var wrong []string // the usual reason is said once for all slots, others one by one
	var others []string
	for _, slot := range e.Slots {
		if number := fmt.Sprint(slot.Slot); !errors.Is(slot.Err, ErrWrongKey) {
			others = append(others, slot.Error())
		} else if len(wrong) == 0 || wrong[len(wrong)-1] != number && slot.Key == 0 {
			wrong = append(wrong, number)
		}
	}
	text := fmt.Sprintf("no key matches: %s tried", count(e.Keys, "key"))
	if len(wrong) > 0 {
		text += fmt.Sprintf(" on slot %s", strings.Join(wrong, ", "))
	}
	if len(others) > 0 {
		text += "; " + strings.Join(others, "; ")
	}
	return text
}

func (e *NoMatchingKeyError) Unwrap() []error {
	all := make([]error, len(e.Slots))
	for i, slot := range e.Slots {
		all[i] = slot
	}
	return all
}
func (*NoMatchingKeyError) Code() string    { return "LUKS-NO-MATCHING-KEY" }
func (*NoMatchingKeyError) Retryable() bool { return false }
func (*NoMatchingKeyError) Hint() string {
	return "check which key belongs to this volume: `initd luks verify --device PATH --key-file PATH`"
}

// CrashedError says that the process that reads headers died or gave no result for this volume.
type CrashedError struct{ Err error }

func (e *CrashedError) Error() string {
	return fmt.Sprintf("the process that derives keys failed: %v", e.Err)
}
func (e *CrashedError) Unwrap() error { return e.Err }
func (*CrashedError) Code() string    { return "LUKS-DERIVE-CRASHED" }
func (*CrashedError) Retryable() bool { return true }
func (*CrashedError) Hint() string {
	return "look for its last words in the log; a crafted header may do this"
}

// UnfinishedError says that the time was over, and what was being done for the volume.
type UnfinishedError struct {
	Doing string // "" if it was not its turn yet
	// Long says that most of the time had gone to this volume already: another attempt would end the same way.
	Long bool
	Err  error // why the time is over
}

func (e *UnfinishedError) Error() string {
	if e.Doing == "" {
		return "its time is over, and it was not its turn yet"
	}
	return "its time is over, and this was not done: " + e.Doing
}
func (e *UnfinishedError) Unwrap() error   { return e.Err }
func (*UnfinishedError) Code() string      { return "LUKS-UNFINISHED" }
func (e *UnfinishedError) Retryable() bool { return !e.Long }
func (e *UnfinishedError) Hint() string {
	if e.Doing == "" {
		return "the volumes opened before it took all the time; raise its deadline:"
	}
	return "if the volume may take that long raise its deadline:; else make its slot cheaper with `cryptsetup luksConvertKey`"
}

func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
