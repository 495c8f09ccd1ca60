package lockclient

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxName is the length of the longest name of a lock, in bytes.
const MaxName = 512

// keys are the names in Redis of one lock: PREFIX{NAME} and its companions, in
// one hash slot. The scripts get all of them, in this order.
type keys [5]string

func lockKeys(prefix, name string) keys {
	base := prefix + "{" + escapeName(name) + "}"
	rest := base + ":f" + base + ":q" + base + ":w" + base + ":h" // in one piece of memory
	k := keys{base}
	n := len(base) + 2
	for i := range len(k) - 1 {
		k[i+1] = rest[i*n : (i+1)*n]
	}
	return k
}

// checkName refuses what no lock may be called.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrBadName)
	case len(name) > MaxName:
		return fmt.Errorf("%w: it has %d bytes: use at most %d", ErrBadName, len(name), MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %q is not UTF-8", ErrBadName, name)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w: %q has control characters", ErrBadName, name)
	}
	return nil
}

// escapeName keeps braces out of the hash tag.
func escapeName(name string) string {
	if !strings.ContainsAny(name, "%{}") {
		return name
	}
	return strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D").Replace(name)
}

// nameOf returns the name of the lock that key belongs to; ok is false for a key
// that is no lock's.
func nameOf(prefix, key string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix+"{")
	if !ok {
		return "", false
	}
	escaped, _, ok := strings.Cut(rest, "}")
	if !ok {
		return "", false
	}
	name, ok = unescape(escaped)
	return name, ok && checkName(name) == nil
}

// escapeNode keeps what separates the parts of ids, records and messages out of
// a node's name.
func escapeNode(node string) string {
	var b strings.Builder
	for i := range len(node) {
		c := node[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// unescape undoes escapeName and escapeNode.
func unescape(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), true
}
