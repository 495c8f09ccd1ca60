package testcluster

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Namespaces runs a scenario with real binaries, each in a network namespace of
// its own with an address and an /etc/hosts of its own, joined by a bridge whose
// rules lose what is to be lost. It needs root, ip and nft; without them the scenario is
// skipped, or fails when PEER_TEST_REQUIRE names netns. Redis is not reachable
// from its hosts.
func Namespaces(t *testing.T, scenario func(*World)) {
	t.Helper()
	if os.Geteuid() != 0 {
		Unavailable(t, "netns", "network namespaces need root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			Unavailable(t, "netns", "no "+tool+" on the PATH: install iproute2 and nftables")
		}
	}
	Binary(t)
	ns := &namespaces{t: t, dir: shortDir(t), name: fmt.Sprintf("peer%d-%d", os.Getpid(), worlds.Add(1))}
	t.Cleanup(ns.remove)
	if err := ns.build(); err != nil {
		Unavailable(t, "netns", fmt.Sprintf("network namespaces do not work here: %v", err))
	}
	w := &World{TB: t, Name: "namespaces", machines: ns}
	t.Cleanup(w.end)
	scenario(w)
}

var worlds atomic.Int64

// namespaces is a switch, in a namespace of its own, and the hosts around it.
type namespaces struct {
	t     *testing.T
	dir   string // of all hosts
	name  string // of the switch's namespace, and the prefix of all others
	given int    // addresses

	mu   sync.Mutex            // hosts may start at the same time
	dark map[*processHost]bool // without a cable
	cuts []string              // rules
	lone []string              // rules
}

func (ns *namespaces) build() error {
	ns.dark = map[*processHost]bool{}
	for _, line := range []string{
		"ip netns add NS",
		"ip -n NS link add br0 type bridge forward_delay 0",
		"ip -n NS link set br0 up",
	} {
		if err := run(strings.ReplaceAll(line, "NS", ns.name)); err != nil {
			return err
		}
	}
	return ns.rules()
}

// address gives out 10.77.0.1 and so on, each once.
func (ns *namespaces) address() string {
	ns.given++
	return fmt.Sprintf("10.77.%d.%d", ns.given/250, 1+ns.given%250)
}

// host makes a namespace for n, with an address.
func (ns *namespaces) host(n *Node) host {
	h := newProcessHost(ns.t, ns.dir, n)
	h.ip, h.port = ns.address(), "7946"
	h.veth = "p" + strings.ReplaceAll(h.ip[6:], ".", "x")
	name := h.veth
	r := strings.NewReplacer("HOST", ns.name+name, "NS", ns.name, "VETH", name, "ADDR", h.ip)
	for _, line := range []string{
		"ip netns add HOST",
		"ip -n NS link add VETH type veth peer name eth0 netns HOST",
		"ip -n NS link set VETH master br0 up",
		"ip -n HOST addr add ADDR/16 dev eth0",
		"ip -n HOST link set eth0 up",
		"ip -n HOST link set lo up",
	} {
		if err := run(r.Replace(line)); err != nil {
			ns.t.Fatal(err)
		}
	}
	if err := os.WriteFile(h.hosts(), []byte("127.0.0.1 localhost\n"), 0o600); err != nil {
		ns.t.Fatal(err)
	}
	// ip netns exec gives the process mounts of its own as well.
	h.wrap = []string{"ip", "netns", "exec", ns.name + name, "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, h.hosts()}
	h.cable = func(plugged bool) {
		ns.change(func() { ns.dark[h] = !plugged })
	}
	return h
}

func (ns *namespaces) redis() Redis {
	ns.t.Fatal("Redis is not reachable from a namespace")
	return nil
}

// cut loses all packets, as a router between them would: both still learn where
// an address is, so that the other direction works.
func (ns *namespaces) cut(from, to []*Node) {
	ns.change(func() {
		for _, f := range from {
			for _, t := range to {
				ns.cuts = append(ns.cuts, between(f, t)+" ether type ip drop")
			}
		}
	})
}

// lose loses a share of the packets, as cut does.
func (ns *namespaces) lose(from, to []*Node, share float64) {
	ns.change(func() {
		for _, f := range from {
			for _, t := range to {
				ns.cuts = append(ns.cuts, fmt.Sprintf("%s ether type ip numgen random mod 100 < %.0f drop", between(f, t), 100*share))
			}
		}
	})
}

// between matches what f sends to t.
func between(f, t *Node) string {
	return fmt.Sprintf("iifname %q oifname %q", f.host.(*processHost).veth, t.host.(*processHost).veth)
}

// blockUDP loses every datagram.
func (ns *namespaces) blockUDP() {
	ns.change(func() { ns.cuts = append(ns.cuts, "ether type ip ip protocol udp drop") })
}

func (ns *namespaces) isolate(n *Node) {
	ns.change(func() { ns.lone = append(ns.lone, ns.lonely(n.host.(*processHost))...) })
}

func (ns *namespaces) lonely(h *processHost) []string {
	return []string{fmt.Sprintf("iifname %q drop", h.veth), fmt.Sprintf("oifname %q drop", h.veth)}
}

func (ns *namespaces) heal() {
	ns.change(func() { ns.cuts, ns.lone = nil, nil })
}

// change puts the rules in force as they are after f.
func (ns *namespaces) change(f func()) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	f()
	ns.must(ns.rules())
}

// rules puts all rules in force at once.
func (ns *namespaces) rules() error {
	all := append(append([]string{}, ns.cuts...), ns.lone...)
	for h, dark := range ns.dark {
		if dark {
			all = append(all, ns.lonely(h)...)
		}
	}
	var script strings.Builder
	script.WriteString("add table bridge peer\ndelete table bridge peer\ntable bridge peer {\n chain between {\n  type filter hook forward priority 0; policy accept;\n")
	for _, rule := range all {
		script.WriteString("  " + rule + "\n")
	}
	cmd := exec.Command("ip", "netns", "exec", ns.name, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script.String() + " }\n}\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

func (ns *namespaces) must(err error) {
	if err != nil {
		ns.t.Error(err)
	}
}

// remove deletes all namespaces; what ran in them has ended.
func (ns *namespaces) remove() {
	out, _ := exec.Command("ip", "netns", "list").Output()
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); name == ns.name || strings.HasPrefix(name, ns.name+"p") {
			ns.must(run("ip netns delete " + name))
		}
	}
}

func run(line string) error {
	f := strings.Fields(line)
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}
