// Package fabrics tests what connects to storage over a network against the kernel's own targets, both in one machine over
// loopback. It owns these tests; what happens when machines and wires fail is for package scenario.
package fabrics
