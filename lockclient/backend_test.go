package lockclient_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// useAll takes two clients of one Redis through everything a lock does.
func useAll(t *testing.T, a, b *lockclient.Client) {
	t.Helper()
	ctx := t.Context()
	// A beat would come after half a minute, and a renewal after minutes: who is told
	// within less was called.
	const soon = 20 * time.Second
	hour := lockclient.WithTTL(time.Hour)
	l := hold(t, a, "demo", hour)
	if _, err := b.TryAcquire(ctx, "demo"); !errors.Is(err, lockclient.ErrHeld) {
		t.Errorf("got %v, want ErrHeld", err)
	}
	next := later(t, b, "demo", hour)
	info := must[lockclient.Info](t)(a.Inspect(ctx, "demo"))
	if info.Holder == nil || len(info.Waiters) != 1 {
		t.Errorf("got %+v, want a holder and a waiter", info)
	}
	time.Sleep(300 * time.Millisecond) // both listen now
	if err := l.Release(ctx); err != nil {
		t.Fatal(err)
	}
	won := within(t, soon, "the next", next)
	if won.err != nil {
		t.Fatal(won.err)
	}
	time.Sleep(300 * time.Millisecond)
	lost := lostAt(won.lock)
	must[lockclient.Info](t)(a.ForceRelease(ctx, "demo"))
	within(t, soon, "the loss", lost)
	// Taken by force before its holder listens: not told at its next renewal only,
	// which is minutes away.
	l = hold(t, a, "young", hour)
	lost = lostAt(l)
	must[lockclient.Info](t)(b.ForceRelease(ctx, "young"))
	within(t, time.Minute, "the loss of a young hold", lost)
	r1, r2 := hold(t, a, "shared", lockclient.Shared()), hold(t, b, "shared", lockclient.Shared())
	if _, err := a.TryAcquire(ctx, "shared"); !errors.Is(err, lockclient.ErrHeld) {
		t.Errorf("got %v, want ErrHeld", err)
	}
	infos := must[[]lockclient.Info](t)(b.List(ctx))
	if len(infos) != 1 || infos[0].Name != "shared" || len(infos[0].Holders) != 2 {
		t.Errorf("got %+v, want one shared by two", infos)
	}
	if err := errors.Join(r1.Release(ctx), r2.Release(ctx)); err != nil {
		t.Error(err)
	}
	if infos := must[[]lockclient.Info](t)(b.List(ctx)); len(infos) != 0 {
		t.Errorf("left behind: %+v", infos)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	roots := certificate(t, dir)
	addr := freeAddr(t, false)
	_, port, _ := net.SplitHostPort(addr)
	s := startRedis(t, "--tls-port", port, "--tls-auth-clients", "no",
		"--tls-cert-file", filepath.Join(dir, "cert.pem"), "--tls-key-file", filepath.Join(dir, "key.pem"),
		"--tls-ca-cert-file", filepath.Join(dir, "cert.pem"))
	secure := func(cfg *lockclient.Config) {
		cfg.URL = "rediss://" + addr
		cfg.TLS = &tls.Config{RootCAs: roots}
	}
	useAll(t, s.client(t, secure), s.client(t, secure))

	c := s.client(t, func(cfg *lockclient.Config) { cfg.URL = "rediss://" + addr })
	_, err := c.TryAcquire(t.Context(), "demo")
	var u *lockclient.UnavailableError
	if !errors.As(err, &u) || u.Cause != lockclient.CauseTLS {
		t.Errorf("an unknown authority: got %v, want %q", err, lockclient.CauseTLS)
	}
	c = s.client(t, func(cfg *lockclient.Config) { cfg.URL = "rediss://" + s.addr })
	if _, err = c.TryAcquire(t.Context(), "demo"); !errors.As(err, &u) || u.Cause != lockclient.CauseTLS && u.Cause != lockclient.CauseCut {
		t.Errorf("TLS to a port without: got %v, want %q", err, lockclient.CauseTLS)
	}
}

// certificate writes one for 127.0.0.1, signed by itself.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "lock") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := startRedis(t, "--unixsocket", filepath.Join(dir, "s"))
	at := func(cfg *lockclient.Config) { cfg.URL = "unix://" + filepath.Join(dir, "s") + "?db=3" }
	useAll(t, s.client(t, at), s.client(t, at))
	if n := s.do("DBSIZE"); n != int64(0) {
		t.Errorf("%v keys in database 0: db=3 was asked for", n)
	}
}

// minimalRights are those that the package documentation gives to a user.
func minimalRights(t *testing.T) []any {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var rule []any
	for line := range strings.Lines(string(doc)) {
		words := strings.Fields(strings.TrimPrefix(line, "//"))
		if len(words) > 2 && words[0] == "ACL" && words[1] == "SETUSER" || rule != nil && len(words) > 0 && strings.ContainsAny(words[0][:1], "+~&") {
			for _, w := range words {
				rule = append(rule, w)
			}
		} else if rule != nil {
			break
		}
	}
	if len(rule) < 5 {
		t.Fatal("the package documentation has no ACL SETUSER")
	}
	return rule
}

// moreRights are those that the package documentation gives behind lead.
func moreRights(t *testing.T, lead string) []any {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(strings.Join(strings.Fields(strings.ReplaceAll(string(doc), "\n//", "")), " "), lead+" ")
	if !ok {
		t.Fatalf("the package documentation has no %q", lead)
	}
	rule, _, _ := strings.Cut(rest, ". ")
	return words(strings.Fields(rule))
}

// commandsUsed are the names of the commands that servers have done.
func commandsUsed(servers ...*redisServer) map[string]bool {
	used := map[string]bool{}
	for _, s := range servers {
		for line := range strings.SplitSeq(fmt.Sprint(s.do("INFO", "commandstats")), "\n") {
			if name, ok := strings.CutPrefix(strings.SplitN(line, ":", 2)[0], "cmdstat_"); ok {
				used[name] = true
			}
		}
	}
	return used
}

// limited is a client's user with the given rights on servers.
func limited(t *testing.T, rights []any, servers ...*redisServer) func(*lockclient.Config) {
	t.Helper()
	for _, s := range servers {
		if !s.since("6.2") {
			rights = slices.DeleteFunc(slices.Clone(rights), func(w any) bool { return strings.HasPrefix(fmt.Sprint(w), "&") })
		}
		s.do(rights...)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("SECRET"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(cfg *lockclient.Config) { cfg.Username, cfg.PasswordFile = "peer", file }
}

// Options that need more rights work with those, and say so without.
func TestRightsOfOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lead   string
		change func(*lockclient.Config)
		works  error
	}{
		{"With WaitReplicas also", func(cfg *lockclient.Config) { cfg.WaitReplicas, cfg.TTL = 1, 8*time.Second }, lockclient.ErrNotReplicated},
		{"With QuietAfterStart also", func(cfg *lockclient.Config) { cfg.QuietAfterStart = time.Millisecond }, nil},
	} {
		s := startRedis(t)
		user := limited(t, minimalRights(t), s)
		_, err := s.client(t, user, tt.change).TryAcquire(t.Context(), "demo")
		var u *lockclient.UnavailableError
		if !errors.As(err, &u) || u.Cause != lockclient.CausePermission {
			t.Errorf("%s: without, got %v, want %q", tt.lead, err, lockclient.CausePermission)
		}
		s.do(append([]any{"ACL", "SETUSER", "peer"}, moreRights(t, tt.lead)...)...)
		time.Sleep(2100 * time.Millisecond) // INFO counts in whole seconds, and may be one too far
		if _, err := s.client(t, user, tt.change).TryAcquire(t.Context(), "other"); !errors.Is(err, tt.works) {
			t.Errorf("%s: got %v, want %v", tt.lead, err, tt.works)
		}
	}
}

// The rights in the documentation are enough, and none of them is too much.
func TestMinimalRights(t *testing.T) {
	t.Parallel()
	rule := minimalRights(t)
	s := startRedis(t)
	user := limited(t, rule, s)
	useAll(t, s.client(t, user), s.client(t, user))
	numbered := func(cfg *lockclient.Config) { cfg.URL += "/1" }
	hold(t, s.client(t, user, numbered), "demo").Release(t.Context())
	// And one that waits for longer than half its claim.
	l := hold(t, s.client(t, user), "long", lockclient.WithTTL(3*time.Second), lockclient.Shared())
	next := later(t, s.client(t, user), "long", lockclient.WithTTL(3*time.Second))
	// ZRANGEBYSCORE and the like are commands of their own.
	whole := s.since("7.0") // else it counts no parts of a command
	unused := func() (rights []any) {
		used := commandsUsed(s)
		for _, w := range rule {
			name, ok := strings.CutPrefix(fmt.Sprint(w), "+")
			if !whole {
				name, _, _ = strings.Cut(name, "|")
			}
			if ok && !used[name] {
				rights = append(rights, w)
			}
		}
		return rights
	}
	for deadline := time.Now().Add(20 * time.Second); len(unused()) > 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond) // a process of its own: there is nothing to wait on
	}
	l.Release(t.Context())
	within(t, time.Minute, "the next", next)
	if u := unused(); len(u) > 0 {
		t.Errorf("these are not needed: %v", u)
	}
	if !s.since("6.2") {
		return // no rights to channels
	}
	s.do("ACL", "SETUSER", "peer", "resetchannels")
	c := s.client(t, user)
	l = hold(t, s.client(t), "demo")
	defer l.Release(t.Context())
	_, err := c.Acquire(t.Context(), "demo")
	var u *lockclient.UnavailableError
	if !errors.As(err, &u) || u.Cause != lockclient.CausePermission {
		t.Errorf("without its channel: got %v, want %q", err, lockclient.CausePermission)
	}
}

// The rights in the documentation are enough for every form of a URL; those of a
// Cluster and of Sentinels are tested with them.
func TestRightsForEveryURL(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "lock") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	roots := certificate(t, dir)
	secure := freeAddr(t, false)
	_, port, _ := net.SplitHostPort(secure)
	socket := filepath.Join(dir, "s")
	s := startRedis(t, "--unixsocket", socket, "--tls-port", port, "--tls-auth-clients", "no",
		"--tls-cert-file", filepath.Join(dir, "cert.pem"), "--tls-key-file", filepath.Join(dir, "key.pem"),
		"--tls-ca-cert-file", filepath.Join(dir, "cert.pem"))
	user := limited(t, minimalRights(t), s)
	for _, url := range []string{
		"redis://" + s.addr, "redis://" + s.addr + "/0", "redis://" + s.addr + "/3", "redis://peer:SECRET@" + s.addr + "/4",
		"rediss://" + secure, "rediss://peer:SECRET@" + secure + "/5",
		"unix://" + socket, "unix://" + socket + "?db=6", "unix://peer:SECRET@" + socket + "?db=7",
	} {
		at := func(cfg *lockclient.Config) { cfg.URL = url }
		if strings.HasPrefix(url, "rediss") {
			at = func(cfg *lockclient.Config) { cfg.URL, cfg.TLS = url, &tls.Config{RootCAs: roots} }
		}
		change := []func(*lockclient.Config){at}
		if !strings.Contains(url, "SECRET") {
			change = append(change, user)
		}
		a, b := s.client(t, change...), s.client(t, change...)
		l := hold(t, a, "demo")
		next := later(t, b, "demo")
		if err := l.Release(t.Context()); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		won := within(t, 20*time.Second, url, next)
		if won.err != nil {
			t.Errorf("%s: %v", url, won.err)
			continue
		}
		must[lockclient.Info](t)(a.ForceRelease(t.Context(), "demo"))
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := make([]*redisServer, 3)
	for i := range nodes {
		nodes[i] = startRedis(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000")
	}
	nodes[0].need("7.0") // for sharded channels
	for i, n := range nodes {
		from, to := i*16384/3, (i+1)*16384/3-1
		n.do("CLUSTER", "ADDSLOTSRANGE", from, to)
		host, port, _ := net.SplitHostPort(nodes[0].addr)
		if i > 0 {
			n.do("CLUSTER", "MEET", host, port)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, n := range nodes {
		for !strings.Contains(fmt.Sprint(n.do("CLUSTER", "INFO")), "cluster_state:ok") {
			if time.Now().After(deadline) {
				t.Fatalf("no cluster after 20 s: %v", n.do("CLUSTER", "INFO"))
			}
			time.Sleep(50 * time.Millisecond) // processes of their own: there is nothing to wait on
		}
	}
	for _, n := range nodes {
		n.do("CONFIG", "SET", "cluster-node-timeout", "60000") // nobody fails, however busy the machine
	}
	at := func(cfg *lockclient.Config) { cfg.URL = "redis+cluster://" + nodes[0].addr + "," + nodes[1].addr }
	useAll(t, nodes[0].client(t, at), nodes[0].client(t, at))
	// The same with the rights of the package documentation.
	more := moreRights(t, "On a Cluster also")
	user := limited(t, append(minimalRights(t), more...), nodes...)
	useAll(t, nodes[0].client(t, at, user), nodes[0].client(t, at, user))
	used := commandsUsed(nodes...)
	for _, w := range more {
		if name := strings.TrimPrefix(fmt.Sprint(w), "+"); !used[name] {
			t.Errorf("%s is not needed: %v", w, used)
		}
	}
	// One lock on each node, and all of them listed.
	c := nodes[0].client(t, at)
	for i := range 30 {
		hold(t, c, fmt.Sprint("lock ", i))
	}
	if infos := must[[]lockclient.Info](t)(c.List(t.Context())); len(infos) != 30 {
		t.Errorf("List has %d, want 30", len(infos))
	}
	for _, n := range nodes {
		if v := n.do("DBSIZE"); v == int64(0) {
			t.Errorf("no keys on %s", n.addr)
		}
	}
}

// A Redis that wants a certificate of its clients, and one whose authority is in
// a file.
func TestTLSFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate(t, dir)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	addr := freeAddr(t, false)
	_, port, _ := net.SplitHostPort(addr)
	s := startRedis(t, "--tls-port", port, "--tls-auth-clients", "yes",
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
	both := func(cfg *lockclient.Config) {
		cfg.URL, cfg.CAFile, cfg.CertFile, cfg.KeyFile = "rediss://"+addr, cert, cert, key
	}
	hold(t, s.client(t, both), "demo").Release(t.Context())
	c := s.client(t, func(cfg *lockclient.Config) { cfg.URL, cfg.CAFile = "rediss://"+addr, cert })
	if _, err := c.TryAcquire(t.Context(), "demo"); !errors.Is(err, lockclient.ErrUnavailable) {
		t.Errorf("without a certificate of its own: got %v, want ErrUnavailable", err)
	}
	open := filepath.Join(dir, "open.pem")
	b, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(open, b, 0o644); err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]lockclient.Config{
		"write rediss://":    {URL: "redis://" + addr, CAFile: cert},
		"go together":        {URL: "rediss://" + addr, CertFile: cert},
		"no such file":       {URL: "rediss://" + addr, CAFile: filepath.Join(dir, "none.pem")},
		"no certificate":     {URL: "rediss://" + addr, CAFile: key},
		"may be read":        {URL: "rediss://" + addr, CertFile: cert, KeyFile: open},
		"redis certificate:": {URL: "rediss://" + addr, CertFile: key, KeyFile: key},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
