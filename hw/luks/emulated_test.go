package luks

import (
	"bytes"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sys/cpu"
)

func TestTheVariableIsXCryptos(t *testing.T) {
	if argon2SSE4 != cpu.X86.HasSSE41 {
		t.Fatalf("argon2SSE4 is %v on a processor whose SSE4.1 is %v: golang.org/x/crypto/argon2 has no useSSE4 any more", argon2SSE4, cpu.X86.HasSSE41)
	}
	hash := func() []byte { return argon2.IDKey([]byte("key"), []byte("salt of the test"), 1, 1<<10, 1, 32) }
	fast := hash()
	defer func(had bool) { argon2SSE4 = had }(argon2SSE4)
	argon2SSE4 = false
	if portable := hash(); !bytes.Equal(fast, portable) {
		t.Errorf("the portable code gives %x, SSE4.1 %x", portable, fast)
	}
}
