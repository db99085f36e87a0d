package main

import (
	"fmt"
	"time"
)

// bytesText writes a size for people: 1.5 GiB.
func bytesText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 1024 && unit < 6 {
		value, unit = value/1024, unit+1
	}
	form := "%.0f %ciB"
	if value < 100 && n%(1<<(10*unit)) != 0 {
		form = "%.1f %ciB"
	}
	return fmt.Sprintf(form, value, " KMGTPE"[unit])
}

// sizeText writes a size for people who compute with it too.
func sizeText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%s (%d bytes)", bytesText(n), n)
}

// durationText writes seconds, minutes and hours as one says them.
func durationText(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}
