// Package bench measures conversions next to qemu-img with its best options: both in one run of one machine, one after the other, medians of
// rounds. It owns what `make bench` prints of the converter: ratios, distances to the limits that were set, how near each row is to what the codec
// alone does on these cores, and memory. It holds benchmarks only.
package bench
