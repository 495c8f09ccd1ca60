package web

import (
	"strconv"
	"strings"
	"unicode"
)

// plain makes what another peer wrote harmless to read: characters that cannot
// be seen, or that turn the direction of what follows, are shown as their
// numbers. Markup is no matter here; whoever draws the text escapes it.
func plain(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			b.WriteString(`\u{` + strconv.FormatInt(int64(r), 16) + `}`)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	return r != ' ' && !unicode.IsGraphic(r) || r == unicode.ReplacementChar
}
