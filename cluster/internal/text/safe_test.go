package text_test

import (
	"strings"
	"testing"

	"github.com/peerhq/peer/cluster/internal/text"
)

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"größe 5":                "größe 5",
		"a\x1b[2J\nb\u202ec\xff": "a.[2J.b.c.",
		strings.Repeat("x", 161): strings.Repeat("x", 160),
	} {
		if got := text.Safe(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
