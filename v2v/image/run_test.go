package image

import (
	"errors"
	"io"
	"testing"
)

func TestARunIsAskedForOnce(t *testing.T) {
	// Data at 10 to 30 and 40 to 50.
	var asked []int64
	seek := func(from int64) (int64, int64, error) {
		asked = append(asked, from)
		switch {
		case from < 30:
			return max(from, 10), 30, nil
		case from < 50:
			return max(from, 40), 50, nil
		}
		return 0, 0, io.EOF
	}
	var l LastRun
	for _, tc := range []struct{ from, start, end, asks int64 }{
		{5, 10, 30, 1}, {9, 10, 30, 1}, {10, 10, 30, 1}, {29, 29, 30, 1},
		{30, 40, 50, 2}, {45, 45, 50, 2}, {35, 40, 50, 2}, {4, 10, 30, 3}, {0, 10, 30, 4},
	} {
		start, end, err := l.Next(tc.from, seek)
		if err != nil || start != tc.start || end != tc.end || int64(len(asked)) != tc.asks {
			t.Errorf("from %d: %d to %d, %v, asked at %d; want %d to %d, %d questions", tc.from, start, end, err, asked, tc.start, tc.end, tc.asks)
		}
	}
	for range 2 {
		if _, _, err := l.Next(50, seek); !errors.Is(err, io.EOF) {
			t.Errorf("behind all data: %v", err)
		}
	}
	if start, end, err := l.Next(12, seek); err != nil || start != 12 || end != 30 {
		t.Errorf("after the end: %d to %d, %v", start, end, err)
	}
}
