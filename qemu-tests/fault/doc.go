// Package fault boots the shipped programs and breaks them, or what they depend on, at a place that the test has chosen.
//
// It owns which faults there are and what must hold after each: what a person reads (matrix.tsv) and what the machine is
// like. It never changes what is shipped: a fault comes from outside, by a tracer, a disk, a wire or a server.
package fault
