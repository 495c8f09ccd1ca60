// Package text shows text that comes from outside: quoted, short, on one line.
// It is what the rooms of package cluster share about characters; it knows
// nothing of their rules.
package text

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// quoted is how many bytes of a text Quote shows: enough to recognise it in an
// error of one line.
const quoted = 40

// Quote returns s quoted, and of a long one only its beginning.
func Quote(s string) string {
	if len(s) <= quoted {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q…", head(s, quoted))
}

// Line returns s on one line of at most n bytes; "…" marks what is cut off.
func Line(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= n {
		return s
	}
	return head(s, max(n-len("…"), 0)) + "…"
}

// head returns the first n bytes of s, or fewer so that no character is cut.
func head(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Unprintable returns where in s the first byte lies that is not part of a
// printable UTF-8 character, or -1.
func Unprintable(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n <= 1 {
				return i
			}
		}
		if !unicode.IsPrint(r) {
			return i
		}
	}
	return -1
}

// IsAlphanumeric says whether r is an ASCII letter or digit.
func IsAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}
