package keys

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const p1 = 1 << 22

// clean says whether s holds nothing that could act on a terminal or a log.
func clean(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
}

// The bytes are what peers of the last version send and take.
func TestFramesStay(t *testing.T) {
	for _, tt := range []struct {
		got  []byte
		want string
	}{
		{
			command{id: 1, from: p1, epoch: 5, op: opRotate, grace: 9, key: bytes.Repeat([]byte{7}, 16)}.encode(),
			"4b" + "0000000000000001" + "0000000000400000" + "0000000000000005" + "6f" + "00000009" + strings.Repeat("07", 16),
		},
		{
			answer{id: 1, from: p1, failed: true, fingerprints: []string{"0123456789abcdef"}, text: "no"}.encode(),
			"6b" + "0000000000000001" + "0000000000400000" + "01" + "01" + "30313233343536373839616263646566" + "6e6f",
		},
		{progress{p1, stageSend, "0123456789abcdef"}.encode(), "53" + "0000000000400000" + "02" + "30313233343536373839616263646566"},
		// Taken from the version in which this was written.
		{sign(bytes.Repeat([]byte{1}, 32), "peer", []byte("frame")), "39fe8e910f4b1f9a1debdcc01fcce2ed"},
	} {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func FuzzKeyFrames(f *testing.F) {
	f.Add(command{id: 1, from: p1, epoch: 5, op: opRotate, grace: 9, key: make([]byte, 32)}.encode()[1:])
	f.Add(command{op: opRemove, key: []byte("0123456789abcdef")}.encode()[1:])
	f.Add(answer{id: 1, from: p1, failed: true, fingerprints: []string{"0123456789abcdef"}, text: "no\x1b"}.encode()[1:])
	f.Add(progress{p1, stageSend, "0123456789abcdef"}.encode()[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if cmd, err := parseCommand(b); err == nil && !bytes.Equal(cmd.encode()[1:], b) {
			t.Errorf("command %+v of %x", cmd, b)
		}
		if a, err := parseAnswer(b); err == nil {
			if len(a.fingerprints) > maxKeys || !clean(a.text) || !clean(strings.Join(a.fingerprints, "")) {
				t.Errorf("answer %+v", a)
			}
			if again, err := parseAnswer(a.encode()[1:]); err != nil || !slices.Equal(again.fingerprints, a.fingerprints) || again.id != a.id {
				if len(a.text) <= maxNote {
					t.Errorf("again: %+v, %v, want %+v", again, err, a)
				}
			}
		}
		if n, err := parseProgress(b); err == nil && !bytes.Equal(n.encode()[1:], b) {
			t.Errorf("news %+v of %x", n, b)
		}
	})
}
