package supervise

import "time"

// steady is how long a service has to run before its restarts are forgotten.
const steady = time.Minute

// verdict is what follows an end.
type verdict struct {
	again  bool
	after  time.Duration
	failed bool // it ended and should not have
}

// judge decides what follows the end of a process that ran for a time, after
// so many restarts in a row. restarts is what to count from then on.
func (r Restart) judge(ok bool, ran time.Duration, restarts int) (v verdict, count int) {
	if ran >= steady {
		restarts = 0
	}
	switch {
	case r.When == Never, r.When == OnFailure && ok:
		return verdict{failed: !ok}, restarts
	case r.Limit > 0 && restarts >= r.Limit:
		return verdict{failed: true}, restarts
	}
	after := r.First
	for range restarts {
		if after *= 2; after >= r.Max {
			break
		}
	}
	return verdict{again: true, after: min(after, r.Max), failed: !ok}, restarts + 1
}
