package luks

import "strings"

// Modules are kernel modules by name, in the order in which they are loaded. What is built in, or already there, is
// nothing to load.
type Modules struct {
	Required []string
	Faster   []string // for this processor, perhaps: they refuse to load on another
}

// ModulesFor names what a volume with this cipher needs. The kernel asks for most of it by itself through
// /sbin/modprobe, but an image has to carry it, and a table that is loaded before the faster code uses the slower one.
// An empty cipher stands for LUKS's default, aes-xts-plain64.
func ModulesFor(cipher string) Modules {
	if cipher == "" {
		cipher = plainCipher
	}
	m := Modules{Required: []string{"dm_crypt"}}
	block, mode, _ := strings.Cut(cipher, "-")
	mode, iv, _ := strings.Cut(mode, "-")
	switch block {
	case "aes":
		m.Faster = append(m.Faster, "aesni_intel")
	case "serpent":
		m.Required = append(m.Required, "serpent_generic")
		m.Faster = append(m.Faster, "serpent_sse2_x86_64", "serpent_avx_x86_64", "serpent_avx2")
	case "twofish":
		m.Required = append(m.Required, "twofish_generic")
		m.Faster = append(m.Faster, "twofish_x86_64", "twofish_x86_64_3way", "twofish_avx_x86_64")
	case "camellia":
		m.Required = append(m.Required, "camellia_generic")
		m.Faster = append(m.Faster, "camellia_x86_64", "camellia_aesni_avx_x86_64", "camellia_aesni_avx2")
	}
	switch mode {
	case "xts":
		m.Required = append(m.Required, "xts", "ecb") // xts is a template over ecb (crypto/xts.c)
	case "cbc", "ctr", "lrw":
		m.Required = append(m.Required, mode)
	}
	if generator, hash, ok := strings.Cut(iv, ":"); ok && generator == "essiv" {
		m.Required = append(m.Required, "essiv", hash+"_generic")
	}
	return m
}
