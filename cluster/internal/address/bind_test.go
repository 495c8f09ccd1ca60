package address

import (
	"strings"
	"testing"
)

func TestParseBind(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{"0.0.0.0:7946", "0.0.0.0:7946", ""},
		{":7946", "0.0.0.0:7946", ""},
		{"127.0.0.1:0", "127.0.0.1:0", ""},
		{"localhost:7946", "127.0.0.1:7946", ""},
		{"LocalHost:7946", "127.0.0.1:7946", ""},
		{"[::]:7946", "[::]:7946", ""},
		{"[2001:db8::1]:7946", "[2001:db8::1]:7946", ""},
		{"[fe80::1%eth0]:7946", "[fe80::1%eth0]:7946", ""},
		{"[::ffff:10.0.0.1]:7946", "10.0.0.1:7946", ""},
		{`{{ "10.0.0.9" }}:7946`, "10.0.0.9:7946", ""},
		{`{{ "2001:db8::9" }}:7946`, "[2001:db8::9]:7946", ""},
		{`{{ GetAllInterfaces | include "flags" "loopback" | include "type" "ipv4" | limit 1 | attr "address" }}:7946`, "127.0.0.1:7946", ""},

		{"", "", "is empty|0.0.0.0:7946"},
		{"7946", "", "the host is missing|:7946 for every"},
		{"10.0.0.1", "", "the port is missing: give 10.0.0.1:7946"},
		{"[2001:db8::1]", "", "the port is missing: give [2001:db8::1]:7946"},
		{"2001:db8::1", "", "the port is missing: give [2001:db8::1]:7946"},
		{"fe80::1%eth0:7946", "", "the port is missing: give [fe80::1%eth0:7946]:7946"},
		{"2001:db8::x:7946", "", "in brackets"},
		{"web-1", "", "the port is missing: give HOST:PORT"},
		{"10.0.0.1:", "", `port ""`},
		{"10.0.0.1:65536", "", `port "65536"|0 to 65535`},
		{"10.0.0.1:-1", "", `port "-1"`},
		{"10.0.0.1:gossip", "", `port "gossip"`},
		{"web-1:7946", "", `"web-1" is not an IP address|this host's|0.0.0.0`},
		{"eth0:7946", "", `'{{ GetInterfaceIP "eth0" }}:7946'`},
		{"*:7946", "", "0.0.0.0:7946|[::]:7946"},
		{"10.0.0.256:7946", "", "is not an IP address"},
		{"[10.0.0.1:7946", "", "the port is missing"},
		{"224.0.0.1:7946", "", "multicast"},
		{"[fe80::1]:7946", "", "[fe80::1%eth0]:7946|--advertise"},
		{"[2001:db8::1%eth0]:7946", "", "only a link-local address has a zone: give [2001:db8::1]:7946"},
		{"[fe80::1%\x1b[31m]:7946", "", "zone cannot be printed"},
		{`{{ "" }}:7946`, "", "gives no address"},
		{`{{ "10.0.0.9:7946" }}`, "", "the port is missing"},
		{`{{ NoSuch }}:7946`, "", "NoSuch"},
		{`{{ "10.0.0.9"`, "", "the port is missing"},
		{`{{ GetInterfaceIP "nosuch0" }}:7946`, "", "nosuch0"},
	} {
		got, err := ParseBind(tt.in)
		wantErr(t, tt.in, err, tt.err)
		if err == nil && got.String() != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "bind \"") {
			t.Errorf("%s: %v, want the setting named", tt.in, err)
		}
	}
}

func FuzzParseBind(f *testing.F) {
	for _, s := range []string{":7946", "[::1]:1", "localhost:0", "{{x}}:1", "}}:{{", "[", "]:1", "::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "{{") { // a template language is its library's to fuzz
			host, port, ok := splitHostPort(s)
			if ok && !strings.HasSuffix(s, ":"+port) || strings.Contains(port, "}}") || len(host) > len(s) {
				t.Fatalf("%q parted into %q and %q", s, host, port)
			}
			return
		}
		addr, err := ParseBind(s)
		if err != nil {
			return
		}
		again, err := ParseBind(addr.String())
		if err != nil || again != addr {
			t.Fatalf("%q is %s, which is %s, %v", s, addr, again, err)
		}
	})
}
