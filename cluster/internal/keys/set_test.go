package keys

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestKeySet(t *testing.T) {
	now := time.Now()
	draw := func(s *keySet) string {
		var out []string
		for _, k := range s.keys {
			text := fmt.Sprint(k.raw[0])
			if k.Old() {
				text += "*"
			}
			out = append(out, text)
		}
		return strings.Join(out, " ")
	}
	later := now.Add(time.Hour)
	a := (&keySet{}).with(key(t, 1))
	for _, tt := range []struct{ what, got, want string }{
		{"one", draw(a), "1"},
		{"twice", draw(a.with(key(t, 1))), "1"},
		{"two", draw(a.with(key(t, 2))), "1 2"},
		{"used", draw(a.with(key(t, 2)).using(key(t, 2), later, false)), "2 1*"},
		{"used at once", draw(a.using(key(t, 2), later, false)), "2 1*"},
		{"used again", draw(a.using(key(t, 2), later, false).using(key(t, 2), later, false)), "2 1*"},
		{"used and another installed", draw(a.with(key(t, 3)).using(key(t, 2), later, false)), "2 1* 3"},
		{"rotated and another installed", draw(a.with(key(t, 3)).using(key(t, 2), later, true)), "2 1* 3*"},
		{"back", draw(a.using(key(t, 2), later, true).using(key(t, 1), later, true)), "1 2*"},
		{"an old one installed anew", draw(a.using(key(t, 2), later, true).with(key(t, 1))), "2 1"},
		{"removed", draw(a.with(key(t, 2)).without(key(t, 2).fingerprint)), "1"},
		{"the first removed", draw(a.with(key(t, 2)).without(key(t, 1).fingerprint)), "1 2"},
		{"none removed", draw((&keySet{}).without("x")), ""},
		{"in time", draw(a.using(key(t, 2), later, true).at(now)), "2 1*"},
		{"over", draw(a.using(key(t, 2), later, true).at(later.Add(time.Second))), "2"},
		{"none", draw((&keySet{}).at(now)), ""},
		{"unchanged", draw(a), "1"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	for _, tt := range []struct {
		stage        stage
		sends, takes bool
		signers      int
	}{{stageStrict, true, false, 1}, {stageAccept, false, true, 2}, {stageSend, true, true, 2}} {
		s := a.clone()
		s.stage = tt.stage
		if (s.sends() != nil) != tt.sends || s.takesPlain() != tt.takes || len(s.signers()) != tt.signers {
			t.Errorf("stage %d: sends %v, takes plain %v, %d keys to verify with", tt.stage, s.sends() != nil, s.takesPlain(), len(s.signers()))
		}
	}
	if none := (&keySet{}); none.sends() != nil || !none.takesPlain() || len(none.signers()) != 1 {
		t.Error("without a key everything is plain")
	}
}
