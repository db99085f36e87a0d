// Package bench measures what a queue costs a job. It holds benchmarks alone.
package bench
