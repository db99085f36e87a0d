package nvmeof

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"initd/hw/secret"
)

// SecretError says why a text is no secret of DH-HMAC-CHAP. It never has a part of it.
type SecretError struct{ Why string }

func (e *SecretError) Error() string { return "secret of DH-HMAC-CHAP: " + e.Why }

// Code is the error's page in the docs.
func (e *SecretError) Code() string { return "NVME-SECRET" }

// Hint says how to get a good one.
func (e *SecretError) Hint() string {
	return "it is one line DHHC-1:00:…:, as nvme gen-dhchap-key prints it; both sides need the same"
}

// Retryable: the text stays what it is.
func (e *SecretError) Retryable() bool { return false }

// maxSecretText bounds a secret's text in bytes: DHHC-1:00: and 68 bytes in base64, and a colon.
const maxSecretText = 128

// CheckSecret verifies a secret's form: DHHC-1:HH:BASE64: where HH is how it is to be transformed (00 not at all, 01, 02 and 03 by
// SHA-256, SHA-384 and SHA-512), and BASE64 has 32, 48 or 64 bytes and their CRC-32 in little-endian (NVMe Base 2.0, section 8.13.5.8; the
// kernel's nvme_auth_extract_key). White space around it is left out. It returns the text without that, which lies in b.
func CheckSecret(b *secret.Buffer) ([]byte, error) {
	text := bytes.TrimSpace(b.Bytes())
	rest, ok := bytes.CutPrefix(text, []byte("DHHC-1:"))
	switch {
	case len(text) == 0:
		return nil, &SecretError{"it is empty"}
	case len(text) > maxSecretText:
		return nil, &SecretError{fmt.Sprintf("it has %d bytes, more than any has", len(text))}
	case !ok:
		return nil, &SecretError{"it does not begin with DHHC-1:"}
	}
	kind, encoded, ok := bytes.Cut(rest, []byte(":"))
	if !ok || len(kind) != 2 || kind[0] != '0' || kind[1] < '0' || kind[1] > '3' {
		return nil, &SecretError{"after DHHC-1: stand 00, 01, 02 or 03, and a colon"}
	}
	encoded, ok = bytes.CutSuffix(encoded, []byte(":"))
	if !ok {
		return nil, &SecretError{"it does not end in a colon: a part of it is missing"}
	}
	size := base64.StdEncoding.DecodedLen(len(encoded))
	if size == 0 {
		return nil, &SecretError{"it has no key"}
	}
	key, err := secret.New(size)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	n, err := base64.StdEncoding.Strict().Decode(key.Bytes(), encoded)
	if err != nil {
		return nil, &SecretError{"its key is not in base64"}
	}
	const sum = 4
	length := n - sum
	if length != 32 && length != 48 && length != 64 {
		return nil, &SecretError{fmt.Sprintf("its key has %d bytes, not 32, 48 or 64", max(length, 0))}
	}
	if want := map[byte]int{'1': 32, '2': 48, '3': 64}[kind[1]]; want != 0 && length != want {
		return nil, &SecretError{fmt.Sprintf("its key has %d bytes, and 0%c is for %d", length, kind[1], want)}
	}
	if crc32.ChecksumIEEE(key.Bytes()[:length]) != binary.LittleEndian.Uint32(key.Bytes()[length:n]) {
		return nil, &SecretError{"its checksum does not match: a character was changed or lost"}
	}
	return text, nil
}
