package step

// advised is an error with the command that helps, where the usual one does not.
type advised struct {
	error
	next string
}

func (e advised) Unwrap() error { return e.error }

// Next is the command, as an operator may type it.
func (e advised) Next() string { return e.next }
