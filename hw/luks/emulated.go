package luks

import (
	"bytes"
	"os"
	_ "unsafe" // for go:linkname

	_ "golang.org/x/crypto/argon2" // whose variable it is
)

// argon2SSE4 is how x/crypto chooses its code. Should it be renamed there, this one is nobody's, and changes nothing.
//
//go:linkname argon2SSE4 golang.org/x/crypto/argon2.useSSE4
var argon2SSE4 bool

// PortableIfEmulated makes argon2 compute without SSE4.1 where QEMU computes every instruction: it has a call for each PSHUFB, of
// which that code is made, and takes half as long again as for the portable code. To be called before Confine, after which the
// processor cannot be looked at, and before anything is derived.
func PortableIfEmulated() {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err == nil && bytes.Contains(b, []byte("QEMU TCG CPU")) {
		argon2SSE4 = false
	}
}
