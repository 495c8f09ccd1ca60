package cluster

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/peerhq/peer/cluster/internal/text"
)

// wantErr checks that err is nil when want is empty, and otherwise holds every
// part of want between "|".
func wantErr(t testing.TB, what string, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%s: %v, want no error", what, err)
		}
		return
	}
	if err == nil {
		t.Errorf("%s: no error, want %q", what, want)
		return
	}
	for part := range strings.SplitSeq(want, "|") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q in it", what, err, part)
		}
	}
}

func TestValidateName(t *testing.T) {
	for in, want := range map[string]string{
		"a":                            "",
		"web-1.example.org":            "",
		"WEB_1":                        "",
		"9":                            "",
		strings.Repeat("n", 128):       "",
		"":                             "name is empty",
		strings.Repeat("n", 129):       "129 bytes: shorten it to 128",
		"a#b":                          "'#'|use letters, digits",
		"a b":                          "' '",
		"a/b":                          "'/'",
		"naïve":                        "'ï'",
		"a\x1b[31m":                    `'\x1b'`,
		"a\xff":                        "use letters",
		"-a":                           "start it with a letter or a digit",
		".a":                           "start it with",
		"_a":                           "start it with",
		"-" + strings.Repeat("#", 200): "201 bytes|'#'|start it with",
	} {
		err := validateName(in)
		wantErr(t, fmt.Sprintf("name %.20q", in), err, want)
		if err != nil && (len(err.Error()) > 600 || strings.ContainsRune(err.Error(), '\x1b')) {
			t.Errorf("name %.20q: an error that is long or not printable: %q", in, err)
		}
	}
}

func TestValidateLabel(t *testing.T) {
	for in, want := range map[string]string{
		"peer":                   "",
		"prod / eu-west":         "",
		"größe":                  "",
		strings.Repeat("l", 255): "",
		"":                       "is empty|the same on every peer",
		strings.Repeat("l", 256): "256 bytes: shorten it to 255",
		strings.Repeat("ü", 128): "256 bytes",
		"a\nb":                   "at byte 1",
		"ab\xffc":                "at byte 2",
		"�":                      "", // a replacement character that was really written
		" a":                     "white space",
		"a ":                     "white space",
	} {
		wantErr(t, fmt.Sprintf("label %.20q", in), validateLabel(in), want)
	}
}

func TestValidateTags(t *testing.T) {
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("tag.%d", i)] = "v"
		}
		return m
	}
	long := func(n int) string { return strings.Repeat("v", n) }
	for _, tt := range []struct {
		name string
		tags map[string]string
		want string
	}{
		{"none", nil, ""},
		{"usual", map[string]string{"dc": "eu-1", "Rack_2.b-c": "größe 3", "empty": ""}, ""},
		{"64", many(64), ""},
		{"65", many(65), "65 tags: remove 1, a peer carries 64"},
		{"longest allowed", map[string]string{long(64): long(256)}, ""},
		{"empty key", map[string]string{"": "v"}, `tag "": a key is 1 to 64`},
		{"bad key", map[string]string{"a b": "v"}, `tag "a b": a key is`},
		{"worst key", map[string]string{"a b": "v", "c=ddd": "v", "é": "v"}, `tag "c=ddd"|2 others`},
		{"long key", map[string]string{long(65): "v"}, "a key is 1 to 64"},
		{"worst value", map[string]string{"a": long(257), "b": long(900), "c": "v"}, `tag "b": its value has 900 bytes, shorten it to 256 (and so 1 other)`},
		{"control", map[string]string{"a": "x\x00"}, `tag "a": its value has a character at byte 1`},
		{"not UTF-8", map[string]string{"a": "\xc3"}, "at byte 0"},
		{"all at once", map[string]string{"a b": long(300) + "\n"}, "a key is|301 bytes|at byte 300"},
	} {
		wantErr(t, tt.name, validateTags(tt.tags), tt.want)
	}
}

func FuzzValidateName(f *testing.F) {
	f.Add("web-1")
	f.Add("a#b")
	f.Fuzz(func(t *testing.T, s string) {
		err := validateName(s)
		ok := s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", r)
		}) && !strings.ContainsAny(s[:1], "-_.")
		if ok != (err == nil) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil && (!utf8.ValidString(err.Error()) || text.Unprintable(strings.ReplaceAll(err.Error(), "\n", "")) >= 0) {
			t.Fatalf("%q: an error that cannot be printed: %q", s, err)
		}
	})
}
