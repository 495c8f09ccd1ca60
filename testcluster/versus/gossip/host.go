//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// host is a network namespace of one agent: a veth pair leads from it to the
// worker's namespace, which forwards between the hosts and can drop what goes
// from some to others. Loopback addresses will not do for that: a stream that
// is dialled comes from 127.0.0.1 whoever dials.
type host struct {
	addr   string
	holder *exec.Cmd
}

// hostSpecs makes n hosts and says how an agent starts on each; the first is
// the seed of the others.
func (l *lab) hostSpecs(n int) ([]spec, error) {
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("a row that cuts the network needs %s: install iproute2 and nftables: %w", tool, err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return nil, fmt.Errorf("forward between hosts: %w", err)
	}
	if err := nft("add table ip versus\nadd chain ip versus forward { type filter hook forward priority 0; policy accept; }"); err != nil {
		return nil, err
	}
	var out []spec
	for i := range n {
		h, err := newHost(i)
		if err != nil {
			return nil, err
		}
		l.hosts[h.addr] = h
		s := spec{Name: agentName(i), Host: h.addr}
		if i > 0 {
			s.Seed = out[0].Host
		}
		out = append(out, s)
	}
	return out, nil
}

func newHost(i int) (*host, error) {
	h := &host{addr: fmt.Sprintf("10.77.%d.2", i+1)}
	router := fmt.Sprintf("10.77.%d.1", i+1)
	h.holder = exec.Command("/proc/self/exe", h.addr, router)
	h.holder.Env = append(os.Environ(), insideEnv+"="+partHold)
	h.holder.Stderr = os.Stderr
	h.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := h.holder.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make host: %w", err)
	}
	out, err := h.holder.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make host: %w", err)
	}
	if err := h.holder.Start(); err != nil {
		return nil, fmt.Errorf("make host: %w", err)
	}
	link := "host" + strconv.Itoa(i+1)
	for _, args := range []string{
		"link add " + link + " type veth peer name eth0 netns " + strconv.Itoa(h.holder.Process.Pid),
		"addr add " + router + "/24 dev " + link,
		"link set " + link + " up",
	} {
		if err := ip(args); err != nil {
			return nil, err
		}
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		return nil, fmt.Errorf("make host: %w", err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		return nil, fmt.Errorf("make host: got %q, want up: %w", line, err)
	}
	return h, nil
}

// hold is a host's first process: it configures the host and stays for as long
// as the worker does.
func hold(in io.Reader, out io.Writer) error {
	addr, router := os.Args[1], os.Args[2]
	r := bufio.NewReader(in)
	if _, err := r.ReadString('\n'); err != nil {
		return errors.New("hold: not told to go")
	}
	if err := linkUp("lo"); err != nil {
		return err
	}
	for _, args := range []string{
		"addr add " + addr + "/24 dev eth0",
		"link set eth0 up",
		"route add default via " + router,
	} {
		if err := ip(args); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(out, "up\n"); err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	_, err := r.ReadString('\n') // until the worker ends
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// enter makes cmd run on the host.
func (h *host) enter(cmd *exec.Cmd) {
	cmd.Args = append([]string{"enter", "/proc/" + strconv.Itoa(h.holder.Process.Pid) + "/ns/net", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/proc/self/exe"
	cmd.Env = append(cmd.Env, insideEnv+"="+partEnter)
}

// cut drops everything between any of a and any of b, silently, as a broken
// cable does.
func (l *lab) cut(a, b []*agent) error {
	as, bs := hostSet(a), hostSet(b)
	return nft("add rule ip versus forward ip saddr " + as + " ip daddr " + bs + " drop\n" +
		"add rule ip versus forward ip saddr " + bs + " ip daddr " + as + " drop")
}

// mend takes all cuts back.
func (l *lab) mend() error { return nft("flush chain ip versus forward") }

func hostSet(agents []*agent) string {
	var out []string
	for _, a := range agents {
		out = append(out, a.Host)
	}
	return "{ " + strings.Join(out, ", ") + " }"
}

func ip(args string) error {
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func nft(rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
