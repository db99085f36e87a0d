package image

import "fmt"

// Fault is a sort of trouble with an image. A caller branches on it; people read Error's text.
type Fault uint8

const (
	// Refused is an image that is whole and that we will not read: it leads to other files, or leaves out state.
	Refused Fault = iota + 1
	// Corrupt contradicts its format or itself.
	Corrupt
	// Unsupported is right by its format, and not built here.
	Unsupported
	// TooLarge is beyond a limit: ours, the format's, or the target's.
	TooLarge
	// NotThis is not of the format at all.
	NotThis
	// Undeclared is an image whose format has to be said: two formats match, or none does.
	Undeclared
)

func (f Fault) String() string {
	switch f {
	case Refused:
		return "refused"
	case Corrupt:
		return "corrupt"
	case Unsupported:
		return "unsupported"
	case TooLarge:
		return "too-large"
	case NotThis:
		return "not-this-format"
	case Undeclared:
		return "undeclared"
	}
	return "invalid"
}

// Error says what is wrong with an image and what to do about it: `disk.vmdk: vmdk: extent "../x" lies outside the image's directory;
// copy all its files into one directory`.
type Error struct {
	Fault Fault
	// Code is stable, short and unique within the project: qcow2-backing-file, vmdk-extent-outside. docs/v2v/refusals.md lists them.
	Code string
	// Image is the source's name, Format qemu-img's name of the format.
	Image, Format string
	// What is the cause, Do what helps; Do may be empty where nothing does.
	What, Do string
}

func (e *Error) Error() string {
	s := e.What
	if e.Format != "" {
		s = e.Format + ": " + s
	}
	if e.Image != "" {
		s = e.Image + ": " + s
	}
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}

// Corruptf is an Error of the fault Corrupt with the advice that always helps.
func Corruptf(image, format, code, what string, args ...any) *Error {
	return &Error{Fault: Corrupt, Code: code, Image: image, Format: format, What: fmt.Sprintf(what, args...), Do: "fetch it again from where it was made"}
}

// Shrunk is the Error of a source that became shorter while it was read; sizes in bytes.
func Shrunk(image string, had, has int64) *Error {
	return &Error{Fault: Corrupt, Code: "raw-cut", Image: image, What: fmt.Sprintf("the file became shorter while it was read: it had %d bytes, and has %d", had, has),
		Do: "stop what writes to it, and begin again"}
}
