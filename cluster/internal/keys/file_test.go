package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func keyLine(t testing.TB, n int, fill byte) string {
	t.Helper()
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, n))
}

func keyFile(t testing.TB, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gossip.key")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadFile(t *testing.T) {
	a, b, c := keyLine(t, 32, 'a'), keyLine(t, 16, 'b'), keyLine(t, 24, 'c')
	for _, tt := range []struct{ name, content, want string }{
		{"one", a + "\n", "a"},
		{"no newline", a, "a"},
		{"in order", a + "\n" + b + "\n" + c + "\n", "abc"},
		{"comments", "# primary\n\n" + b + "  # since May\n\t" + a + "\r\n", "ba"},
		{"twice", a + "\n" + b + "\n" + a + "\n", "ab"},
		{"byte order mark", "\xef\xbb\xbf" + a + "\n", "a"},
	} {
		for _, mode := range []os.FileMode{0o600, 0o400} {
			keys, err := ReadFile(keyFile(t, tt.content, mode))
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			var got []byte
			for _, k := range keys {
				got = append(got, k[0])
			}
			if string(got) != tt.want {
				t.Errorf("%s: keys %q, want %q", tt.name, got, tt.want)
			}
		}
	}
}

func TestReadFileRefuses(t *testing.T) {
	good, secret := keyLine(t, 32, 'a'), keyLine(t, 32, 's')
	var many strings.Builder
	for i := range maxKeys + 1 {
		many.WriteString(keyLine(t, 32, byte(i)) + "\n")
	}
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"group may read", good, 0o640, "mode 0640|chmod 600 "},
		{"others may read", good, 0o604, "chmod 600 "},
		{"others may write", good, 0o602, "chmod 600 "},
		{"empty", "", 0o600, "no key|peer keygen"},
		{"comments only", "# later\n", 0o600, "no key"},
		{"short", keyLine(t, 31, 's'), 0o600, "line 1: a key of 31 bytes|16, 24 or 32"},
		{"long", "#\n" + keyLine(t, 33, 's'), 0o600, "line 2: a key of 33 bytes"},
		{"not base64", good + "\n" + secret[:20] + "!" + secret[21:] + "\n", 0o600, "line 2: not a base64 key|peer keygen"},
		{"cut", secret[:len(secret)-3], 0o600, "line 1: not a base64 key"},
		{"padding bits set", secret[:len(secret)-2] + "d=", 0o600, "line 1: not a base64 key"},
		{"two in a line", secret + " " + secret, 0o600, "line 1: not a base64 key"},
		{"all mistakes", "x\n" + keyLine(t, 3, 's') + "\n", 0o600, "line 1: not|line 2: a key of 3"},
		{"too many", many.String(), 0o600, "17 keys|16 is the limit"},
		{"binary", strings.Repeat("\x00", maxKeyFileBytes+1), 0o600, "larger than"},
	} {
		path := keyFile(t, tt.content, tt.mode)
		_, err := ReadFile(path)
		wantErr(t, tt.name, err, tt.want)
		if err == nil {
			continue
		}
		if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want the path in it", tt.name, err)
		}
		for n := 6; n < len(secret); n++ { // no piece of it
			if strings.Contains(err.Error(), secret[n-6:n]) {
				t.Fatalf("%s: the error shows a piece of the key: %v", tt.name, err)
			}
		}
	}
}

func TestReadFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	_, err := ReadFile(missing)
	wantErr(t, "missing", err, "peer keygen > "+missing)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	_, err = ReadFile(dir)
	wantErr(t, "directory", err, "not a regular file")
}

func TestDraw(t *testing.T) {
	key, err := Draw(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ReadFile(keyFile(t, key+"\n", 0o600))
	if err != nil || len(keys) != 1 || len(keys[0]) != 32 {
		t.Errorf("read back %d keys, %v", len(keys), err)
	}
	other, err := Draw(rand.Reader)
	if err != nil || other == key {
		t.Errorf("two keys are the same, or %v", err)
	}
	broken := errors.New("no entropy")
	if _, err := Draw(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
	if _, err := Draw(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("made a key of 31 random bytes")
	}
}

func TestFingerprint(t *testing.T) {
	a, b := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	// The digits are shown to people who compare them across versions.
	if got, want := Fingerprint(a), "dddea6e04e6ee51d"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if Fingerprint(a) == Fingerprint(b) || Fingerprint(a) != Fingerprint(bytes.Clone(a)) {
		t.Error("it does not tell keys apart")
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("# c\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"))
	f.Add([]byte("AAAA\r\n=#"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxKeys {
			t.Fatalf("%d keys and %v", len(keys), err)
		}
		var again strings.Builder
		for _, k := range keys {
			fmt.Fprintln(&again, base64.StdEncoding.EncodeToString(k))
		}
		if second, err := parseKeys([]byte(again.String())); len(keys) > 0 && (err != nil || len(second) != len(keys)) {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
	})
}

// wantErr fails unless err has every part of want, which '|' separates.
func wantErr(t testing.TB, what string, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: accepted", what)
		return
	}
	for part := range strings.SplitSeq(want, "|") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: got %q, want %q in it", what, err, part)
		}
	}
}
