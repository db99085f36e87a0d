package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// search looks for secrets (in hex) in the memory of init and of the
// orchestrator: raw, as hex, as base64. It answers how much it read and what it
// found; a known string of each program proves that the search can find.
func search(secrets []string) (map[string]any, error) {
	pid, err := orchestrator()
	if err != nil {
		return nil, err
	}
	var found []string
	read := 0
	proved := 0
	for _, p := range []struct {
		name  string
		pid   int
		known string
	}{{"init", 1, "SIGCHLD"}, {"orchestrator", pid, "/run/initd"}} {
		n, err := eachRegion(p.pid, func(b []byte) {
			if bytes.Contains(b, []byte(p.known)) {
				proved |= 1 << min(p.pid, 2)
			}
			for i, s := range secrets {
				for how, want := range shapes(s) {
					if bytes.Contains(b, want) {
						found = append(found, fmt.Sprintf("%s holds secret %d (%s)", p.name, i, how))
					}
				}
			}
		})
		if err != nil {
			return nil, err
		}
		read += n
	}
	return map[string]any{"read": read, "found": found, "proved": proved == 6}, nil
}

func shapes(secret string) map[string][]byte {
	raw, err := hex.DecodeString(secret)
	if err != nil || len(raw) < 16 {
		return nil
	}
	return map[string][]byte{"raw": raw, "hex": []byte(secret), "base64": []byte(base64.StdEncoding.EncodeToString(raw))[:len(raw)]}
}

// eachRegion reads every readable region of a process (proc(5), maps and mem)
// and returns how many bytes that were.
func eachRegion(pid int, see func([]byte)) (int, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	total := 0
	for _, line := range strings.Split(string(maps), "\n") {
		var from, to uint64
		var perm string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perm); n != 3 || perm[0] != 'r' || to-from > 1<<30 {
			continue
		}
		// Pages at a time, with an overlap as long as the longest shape.
		const window, overlap = 1 << 20, 256
		buf := make([]byte, window+overlap)
		for at := from; at < to; at += window {
			n, _ := mem.ReadAt(buf[:min(window+overlap, to-at)], int64(at)) // reserved pages cannot be read
			see(buf[:n])
			total += n
		}
	}
	return total, nil
}
