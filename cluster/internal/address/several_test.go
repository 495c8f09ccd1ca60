package address

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// deadAddresses are the errors of n addresses of which none answers.
func deadAddresses(n int) []error {
	errs := make([]error, 0, n)
	for i := range n {
		errs = append(errs, fmt.Errorf("join 10.0.%d.%d:7946: no route to it: check the address and this host's network: %w", i/250, i%250, syscall.EHOSTUNREACH))
	}
	return errs
}

func TestSeveralIsShort(t *testing.T) {
	const what = "addresses, none answers"
	err := Several(what, deadAddresses(250))
	wantErr(t, "250", err, "250 addresses, none answers; first: join 10.0.0.0:7946: no route to it")
	if n := len(err.Error()); n > maxSeveral {
		t.Errorf("%d bytes: %v", n, err)
	}
	if !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("%v hides its causes", err)
	}
	long := Several(what, []error{errors.New(strings.Repeat("é\n", 500)), errors.New("b")})
	if n := len(long.Error()); n > maxSeveral || strings.Contains(long.Error(), "\n") {
		t.Errorf("%d bytes: %q", n, long)
	}
}

func TestSeveralOfFew(t *testing.T) {
	if err := Several("things", nil); err != nil {
		t.Errorf("nothing is %v", err)
	}
	if err := Several("things", []error{nil, nil}); err != nil {
		t.Errorf("no errors are %v", err)
	}
	one := errors.New("one")
	if err := Several("things", []error{nil, one}); err != one {
		t.Errorf("one error is %v", err)
	}
}

func TestSameFailure(t *testing.T) {
	dead := deadAddresses(70)
	none, later := Several("addresses, none answers", dead[:64]), Several("addresses, none answers", dead[5:])
	for _, tt := range []struct {
		name string
		a, b error
		want bool
	}{
		{"none", nil, nil, true},
		{"new", nil, dead[0], false},
		{"gone", dead[0], nil, false},
		{"the same text", dead[0], errors.New(dead[0].Error()), true},
		{"another address alone", dead[0], dead[1], false},
		{"other addresses of many", none, later, true},
		{"many of another thing", none, Several("SRV targets, none resolves", dead), false},
		{"one instead of many", none, dead[0], false},
	} {
		if got := SameFailure(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
