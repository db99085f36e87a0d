package debian

import "strings"

// commands reads a maintainer script for the simple commands in it, as lists of words with the script's own constant
// variables filled in. It is no shell: it does not know which branch is taken, and leaves out what it cannot read. That
// is enough for the commands that are looked for here, which scripts state once and plainly.
func commands(script string) [][]string {
	script = strings.ReplaceAll(script, "\\\n", " ")
	variables := map[string]string{}
	var list [][]string
	for line := range strings.SplitSeq(script, "\n") {
		for _, words := range splitCommands(line) {
			for len(words) > 0 && isKeyword(words[0]) {
				words = words[1:]
			}
			if len(words) > 0 && (words[0] == "export" || words[0] == "local" || words[0] == "readonly") {
				words = words[1:]
			}
			for i := range words {
				words[i] = expand(words[i], variables)
			}
			if len(words) == 0 {
				continue
			}
			if name, value, ok := strings.Cut(words[0], "="); ok && isVariable(name) {
				// The first value stands: later ones are mostly in branches.
				if _, known := variables[name]; !known && len(words) == 1 {
					variables[name] = value
				}
				continue
			}
			list = append(list, words)
		}
	}
	return list
}

func isKeyword(word string) bool {
	switch word {
	case "if", "then", "else", "elif", "while", "until", "do", "!", "{", "(", "exec", "command":
		return true
	}
	return false
}

func isVariable(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return !(c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9')
	})
}

// splitCommands splits a line into commands and those into words, minding quotes. Redirections are left out. A dollar
// in single quotes is kept from expansion by a zero byte before it.
func splitCommands(line string) [][]string {
	var list [][]string
	var words []string
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	endCommand := func() {
		endWord()
		if words = dropRedirections(words); len(words) > 0 {
			list = append(list, words)
		}
		words = nil
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return list // it goes on over the line's end: nothing that is looked for here
			}
			word.WriteString(strings.ReplaceAll(line[i+1:i+1+end], "$", "\x00$"))
			inWord = true
			i += end + 1
		case c == '"':
			end := i + 1
			for end < len(line) && line[end] != '"' {
				if line[end] == '\\' && end+1 < len(line) {
					end++
				}
				word.WriteByte(line[end])
				end++
			}
			if end >= len(line) {
				return list
			}
			inWord = true
			i = end
		case c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inWord = true
		case c == '#' && !inWord:
			endCommand()
			return list
		case c == ' ' || c == '\t':
			endWord()
		case c == ';' || c == '|' || c == '&' && !strings.HasSuffix(word.String(), ">"):
			endCommand()
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	endCommand()
	return list
}

func dropRedirections(words []string) []string {
	var out []string
	for i := 0; i < len(words); i++ {
		w := strings.TrimLeft(words[i], "0123456789")
		if strings.HasPrefix(w, ">") || strings.HasPrefix(w, "<") {
			if strings.Trim(w, "<>") == "" {
				i++ // the file is the next word
			}
			continue
		}
		out = append(out, words[i])
	}
	return out
}

// expand fills in $NAME and ${NAME}. What is unknown, or more than a name, keeps its dollar: callers pass such words over.
func expand(word string, variables map[string]string) string {
	var out strings.Builder
	for i := 0; i < len(word); i++ {
		switch {
		case word[i] == 0 && i+1 < len(word):
			i++
			out.WriteByte(word[i])
			continue
		case word[i] != '$':
			out.WriteByte(word[i])
			continue
		}
		rest := word[i+1:]
		name, length := "", 0
		if strings.HasPrefix(rest, "{") {
			if end := strings.IndexByte(rest, '}'); end > 0 {
				name, length = rest[1:end], end+1
			}
		} else {
			for length < len(rest) && isVariable(rest[:length+1]) {
				length++
			}
			name = rest[:length]
		}
		value, ok := variables[name]
		if !ok || !isVariable(name) || out.Len()+len(value) > 4096 {
			out.WriteByte('$')
			continue
		}
		out.WriteString(value)
		i += length
	}
	return out.String()
}
