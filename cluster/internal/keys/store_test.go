package keys

import (
	"testing"
	"time"
)

func TestKeyNotes(t *testing.T) {
	until := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	set := (&keySet{epoch: 1 << 51}).with(key(t, 1)).using(key(t, 2), until, true)
	data := encodeKeys(set, until.Add(-time.Hour))
	keys, err := parseKeys(data)
	if err != nil || len(keys) != 2 || keys[0][0] != 2 || keys[1][0] != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	ends, epoch := keyNotes(data)
	if len(ends) != 1 || !ends[key(t, 1).fingerprint].Equal(until) || epoch != 1<<51 {
		t.Errorf("got %v, %d", ends, epoch)
	}
	for _, s := range []string{"", "# until tomorrow", "# epoch", "# epoch -1", "# epoch 99999999999999999999", "x # until 2026-11-27T08:00:00Z", string(data[:50])} {
		if ends, epoch := keyNotes([]byte(s)); len(ends) != 0 || epoch != 0 {
			t.Errorf("%q: got %v, %d", s, ends, epoch)
		}
	}
}
