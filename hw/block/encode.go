package block

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// What udev leaves as it is in a name (systemd, src/shared/device-nodes.c, allow_listed_char_for_devnode).
const allowed = "#+-.:=@_"

func allowedByte(c byte, also string) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' ||
		strings.IndexByte(allowed, c) >= 0 || strings.IndexByte(also, c) >= 0
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// encode writes a label or UUID as udev does in a link (encode_devnode_name): a byte that is neither allowed nor part of
// valid UTF-8 beyond ASCII becomes \xNN; a backslash always does.
func encode(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		if r, size := utf8.DecodeRuneInString(s[i:]); size > 1 && r != utf8.RuneError {
			out.WriteString(s[i : i+size])
			i += size
			continue
		}
		if c := s[i]; c == '\\' || !allowedByte(c, "") {
			fmt.Fprintf(&out, `\x%02x`, c)
		} else {
			out.WriteByte(c)
		}
		i++
	}
	return out.String()
}

// underscores trims white space at both ends and makes each run of it inside one underscore (udev_replace_whitespace).
func underscores(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < utf8.RuneSelf && isSpace(byte(r)) }), "_")
}

// replace puts an underscore for each byte that is not allowed (udev_replace_chars). A \x with a hexadecimal digit stays; with a blank among
// the allowed ones, other white space becomes a blank.
func replace(s, also string) string {
	out := []byte(s)
	for i := 0; i < len(out); {
		c := out[i]
		if allowedByte(c, also) {
			i++
			continue
		}
		if c == '\\' && i+1 < len(out) && out[i+1] == 'x' {
			i += 2
			continue
		}
		if r, size := utf8.DecodeRune(out[i:]); size > 1 && r != utf8.RuneError {
			i += size
			continue
		}
		out[i] = '_'
		if isSpace(c) && strings.Contains(also, " ") {
			out[i] = ' '
		}
		i++
	}
	return string(out)
}

// attribute is what $attr{…} puts into a rule: without white space at its end, unwanted characters replaced.
func attribute(s string) string { return replace(strings.TrimRight(s, " \t\n\v\f\r"), "/ $%?,") }

// link is a name after SYMLINK+= has had it: substituted values lose their white space, then unwanted characters are replaced.
func link(prefix, value string) string { return replace(prefix+underscores(value), "/") }
