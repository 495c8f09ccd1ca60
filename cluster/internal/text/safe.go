package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// safeBytes bounds what Safe returns: a line of a log, not a page.
const safeBytes = 160

// Safe makes a stranger's text safe to log: it returns at most 160 bytes of s,
// with a dot for each control character and for whatever hides text or turns
// its direction.
func Safe(s string) string {
	if len(s) > safeBytes {
		s = s[:safeBytes]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, s)
}
