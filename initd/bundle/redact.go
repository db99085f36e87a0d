package bundle

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
)

// Redacted stands where a secret may have stood.
const Redacted = "REDACTED"

// Patterns of what may be a secret. An appliance holds none, by its rules; what
// services write and what somebody typed into a kernel command line may.
var (
	privateKey = lazily(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`)
	userInURL  = lazily(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@"'<>]+@`)
	cryptHash  = lazily(`\$[0-9a-z]{1,8}\$[^\s"',}]{8,}`)
	named      = lazily(`(?i)([\w.-]*` + secretWords + `[\w.-]*["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\s,}"']+)`)
	secretName = lazily(`(?i)` + secretWords)
)

const secretWords = `(?:password|passwd|passphrase|secret|token|api[-_]?key|private[-_]?key|credential)`

// Text redacts a text of any form.
func Text(b []byte) []byte {
	b = privateKey().ReplaceAll(b, []byte(Redacted))
	b = userInURL().ReplaceAll(b, []byte("${1}"+Redacted+"@"))
	b = cryptHash().ReplaceAll(b, []byte(Redacted))
	return named().ReplaceAllFunc(b, func(found []byte) []byte {
		m := named().FindSubmatch(found)
		value := string(m[2])
		if harmless(strings.Trim(value, `"'`)) {
			return found
		}
		quote := ""
		if value[0] == '"' || value[0] == '\'' {
			quote = value[:1]
		}
		return []byte(string(m[1]) + quote + Redacted + quote)
	})
}

// harmless values say where a secret comes from.
func harmless(value string) bool {
	switch strings.ToLower(value) {
	case "", "kmip", "prompt", "ephemeral", "never", "true", "false", "null", "{", strings.ToLower(Redacted):
		return true
	}
	return false
}

// JSON redacts every string of a JSON text, or of several, one a line. What is
// no JSON is redacted as text.
func JSON(b []byte) []byte {
	var out bytes.Buffer
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	lines := bytes.Count(b, []byte("\n{")) > 0
	for d.More() {
		at := d.InputOffset()
		var v any
		if err := d.Decode(&v); err != nil { // the torn end of a file that is being written
			out.Write(Text(b[at:]))
			break
		}
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		if !lines {
			e.SetIndent("", "  ")
		}
		if e.Encode(value(v)) != nil {
			break // cannot be: it was decoded a moment ago
		}
	}
	return out.Bytes()
}

func value(v any) any {
	switch v := v.(type) {
	case string:
		return string(Text([]byte(v)))
	case []any:
		for i := range v {
			v[i] = value(v[i])
		}
	case map[string]any:
		for k, x := range v {
			if s, ok := x.(string); ok && secretName().MatchString(k) && !harmless(s) {
				v[k] = Redacted
			} else {
				v[k] = value(x)
			}
		}
	}
	return v
}

// lazily compiles a pattern at its first use: every child is this program, and would pay for all of them at its start.
func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}
