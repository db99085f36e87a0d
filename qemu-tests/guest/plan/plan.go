// Package plan is what a test and the guest of its machine agree on: which test programs to run. It owns the plan's form
// and where it lies in the guest, and imports nothing.
package plan

// Path of the plan in the guest, as JSON.
const Path = "/etc/guest/plan.json"

// Modules is the file that lists the kernel modules to load, one path a line, in order.
const Modules = "/etc/guest/modules"

// Plan lists test programs, run one after another.
type Plan struct {
	Tests []Test `json:"tests"`
}

// Test is one program made by `go test -c`.
type Test struct {
	// Package as the test names it.
	Package string `json:"package"`
	// Program is its path in the guest.
	Program string   `json:"program"`
	Args    []string `json:"args"`
	// Dir is the working directory; a package's testdata is copied there.
	Dir string `json:"dir"`
}
