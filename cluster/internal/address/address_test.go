package address

import (
	"net/netip"
	"strings"
	"testing"
)

// wantErr checks that err is nil when want is empty, and otherwise holds every
// part of want between "|" on one line.
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
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: an error of several lines: %q", what, err)
	}
	for part := range strings.SplitSeq(want, "|") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q in it", what, err, part)
		}
	}
}

func TestRefuse(t *testing.T) {
	const lan, lan6, lo, lo6 = "10.0.0.1:7946", "[2001:db8::1]:7946", "127.0.0.1:7946", "[::1]:7946"
	for _, tt := range []struct{ announced, own, want string }{
		{"10.0.0.2:7946", lan, ""},
		{"[2001:db8::2]:7946", lan, ""},
		{"169.254.3.4:7946", lan, ""},
		{"10.0.0.2:7946", lo, ""}, // from here it may be reached
		{"127.0.0.2:7946", lo, ""},
		{"127.0.0.2:7946", lo6, ""},
		{"[::1]:7947", lo, ""},
		{"[::ffff:127.0.0.2]:7946", "[::ffff:127.0.0.1]:7946", ""},

		{"127.0.0.1:7946", lan, "127.0.0.1:7946 is a loopback address|--advertise"},
		{"127.9.9.9:7946", lan6, "loopback address"},
		{"[::1]:7946", lan, "[::1]:7946 is a loopback address"},
		{"[::ffff:127.0.0.1]:7946", lan, "loopback address"},
		{"0.0.0.0:7946", lo, "no host's address|--advertise"},
		{"[::]:7946", lan, "no host's address"},
		{"224.0.0.1:7946", lan, "no host's address"},
		{"10.0.0.2:0", lan, "has no port|--advertise ADDR:PORT"},
		{"[fe80::1]:7946", lan6, "link-local|--advertise"},
		{"[fe80::1%eth0]:7946", lan6, "link-local"},
		{"[2001:db8::1%eth0]:7946", lan6, "link-local"},
	} {
		wantErr(t, tt.announced+" at "+tt.own, Refuse(netip.MustParseAddrPort(tt.announced), netip.MustParseAddrPort(tt.own)), tt.want)
	}
	wantErr(t, "nothing", Refuse(netip.AddrPort{}, netip.MustParseAddrPort(lan)), "no host's address")
}
