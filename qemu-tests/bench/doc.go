// Package bench measures what the foundation costs next to what people use instead: both in one run of one machine, one
// after the other, so that a slow or busy machine is slow for both. It owns what `make bench` prints: ratios of medians, and
// how far each is from the limit that was set for it. It never asserts on seconds of the wall clock; a ratio beyond its limit
// fails. It holds benchmarks only, and nothing that another package could import.
package bench
