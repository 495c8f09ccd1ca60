package selector_test

import (
	"testing"

	"github.com/peerhq/peer/selector"
)

func TestPolicyNames(t *testing.T) {
	for p := selector.RoundRobin; p <= selector.Nearest; p++ {
		got, err := selector.ParsePolicy(p.String())
		if err != nil || got != p {
			t.Errorf("%v: parsed as %v, %v", p, got, err)
		}
	}
	if _, err := selector.ParsePolicy("fastest"); err == nil {
		t.Error("an unknown policy parses")
	}
	if got := selector.Policy(99).String() + selector.Tier(-1).String(); got != "Policy(99)Tier(-1)" {
		t.Errorf("got %q", got)
	}
}
