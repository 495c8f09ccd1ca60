package text_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/peerhq/peer/cluster/internal/text"
)

func TestQuote(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", `""`},
		{"a\nb", `"a\nb"`},
		{strings.Repeat("a", 40), `"` + strings.Repeat("a", 40) + `"`},
		{strings.Repeat("a", 41), `"` + strings.Repeat("a", 40) + `"…`},
		{strings.Repeat("a", 39) + "é", `"` + strings.Repeat("a", 39) + `"…`},
	} {
		if got := text.Quote(tt.in); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestLine(t *testing.T) {
	for _, tt := range []struct {
		in   string
		n    int
		want string
	}{
		{" a\n\tb ", 10, "a b"},
		{"abcdef", 6, "abcdef"},
		{"abcdefg", 6, "abc…"},
		{"abéé", 5, "ab…"},
		{"ab", 1, "…"},
	} {
		if got := text.Line(tt.in, tt.n); got != tt.want {
			t.Errorf("%q in %d bytes: got %q, want %q", tt.in, tt.n, got, tt.want)
		}
	}
}

func TestUnprintable(t *testing.T) {
	for in, want := range map[string]int{"": -1, "größe": -1, "a b": -1, "a\x1b": 1, "a\xff": 1, "é\u202e": 2, "\ufffd": -1} {
		if got := text.Unprintable(in); got != want {
			t.Errorf("%q: got %d, want %d", in, got, want)
		}
		if !utf8.ValidString(in) && text.Unprintable(in) < 0 {
			t.Errorf("%q is not UTF-8 and passes", in)
		}
	}
}
