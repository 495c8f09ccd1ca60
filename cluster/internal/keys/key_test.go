package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
)

func key(t testing.TB, fill byte) *Key {
	t.Helper()
	k, err := newKey(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSeal(t *testing.T) {
	for _, size := range []int{16, 24, 32} {
		k, err := newKey(bytes.Repeat([]byte{1}, size))
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{"", "x", strings.Repeat("y", 5000)} {
			sealed := k.Seal([]byte("head"), []byte(message), []byte("label"))
			if len(sealed) != 4+Overhead+len(message) || bytes.Contains(sealed, []byte("yyyy")) {
				t.Fatalf("%d bytes of %d", len(sealed), len(message))
			}
			got, err := k.open([]byte("head"), sealed[4:], []byte("label"))
			if string(got) != "head"+message || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			for name, open := range map[string]func() ([]byte, error){
				"another label": func() ([]byte, error) { return k.open(nil, sealed[4:], []byte("other")) },
				"another key":   func() ([]byte, error) { return key(t, 9).open(nil, sealed[4:], []byte("label")) },
				"cut off":       func() ([]byte, error) { return k.open(nil, sealed[4:len(sealed)-1], []byte("label")) },
				"nothing":       func() ([]byte, error) { return k.open(nil, nil, []byte("label")) },
				"a flipped bit": func() ([]byte, error) {
					bad := slices.Clone(sealed[4:])
					bad[len(bad)/2] ^= 1
					return k.open(nil, bad, []byte("label"))
				},
			} {
				if got, err := open(); err == nil {
					t.Errorf("%s: opened %q", name, got)
				}
			}
		}
	}
	a, b := key(t, 1).Seal(nil, []byte("m"), nil), key(t, 1).Seal(nil, []byte("m"), nil)
	if bytes.Equal(a, b) {
		t.Error("a nonce was used twice")
	}
}

func BenchmarkSeal(b *testing.B) {
	k := key(b, 1)
	message := make([]byte, 200)
	_, _ = rand.Read(message)
	b.ReportAllocs()
	for b.Loop() {
		sealed := k.Seal(make([]byte, 0, 300), message, []byte("peer"))
		if _, err := k.open(nil, sealed, []byte("peer")); errors.Is(err, errSealed) {
			b.Fatal(err)
		}
	}
}
