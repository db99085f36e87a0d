package iscsi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Files of this machine from which its initiator name comes, below its root.
const (
	initiatorFile = "etc/iscsi/initiatorname.iscsi" // open-iscsi's
	initiatorIBFT = "sys/firmware/ibft/initiator/initiator-name"
	productUUID   = "sys/class/dmi/id/product_uuid"
	machineID     = "etc/machine-id"
)

// InitiatorName gives this machine's name for targets, and where it is from: what the firmware booted with, open-iscsi's
// file, or one made of the machine's identity, the same at each call. root is the machine's root directory.
func InitiatorName(root fs.FS) (name, from string, err error) {
	if b, err := fs.ReadFile(root, initiatorIBFT); err == nil {
		if n := strings.TrimRight(string(b), "\x00\n "); checkName(n) == nil {
			return n, "/" + initiatorIBFT, nil
		}
	}
	if b, err := fs.ReadFile(root, initiatorFile); err == nil {
		if len(b) > 64<<10 {
			return "", "", fmt.Errorf("/%s: it is no file of one name", initiatorFile)
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSpace(line)
			key, value, ok := strings.Cut(line, "=")
			if !ok || strings.HasPrefix(line, "#") || strings.TrimSpace(key) != "InitiatorName" {
				continue
			}
			value = strings.TrimSpace(value)
			if err := checkName(value); err != nil {
				return "", "", fmt.Errorf("/%s: %w", initiatorFile, err)
			}
			return value, "/" + initiatorFile, nil
		}
	}
	for _, file := range []string{productUUID, machineID} {
		b, err := fs.ReadFile(root, file)
		id := strings.ToLower(strings.TrimSpace(string(b)))
		if err != nil || strings.Trim(id, "0f-") == "" { // a board without an identity of its own
			continue
		}
		sum := sha256.Sum256([]byte("iscsi initiator " + id))
		return "iqn.2026-01.local.initd:" + hex.EncodeToString(sum[:8]), "/" + file, nil
	}
	return "", "", errors.New("this machine has no identity that an initiator name could be made of; give one (InitiatorName=iqn.… in /" + initiatorFile + ")")
}
