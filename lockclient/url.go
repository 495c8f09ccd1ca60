package lockclient

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// parseURL reads what Config.URL may be. Its errors do not contain it, for it
// may have a password.
func parseURL(raw string) (*redis.UniversalOptions, error) {
	raw, hosts := takeHosts(raw)
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("it is malformed: use redis://host:port")
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	opt := &redis.UniversalOptions{IsClusterMode: kind == "cluster"}
	if u.User != nil {
		opt.Username = u.User.Username()
		opt.Password, _ = u.User.Password()
	}
	port := "6379"
	switch {
	case scheme == "unix" && kind == "":
		if !strings.HasPrefix(u.Path, "/") || hosts != "" {
			return nil, errors.New("it names no socket: use unix:///path/to/redis.sock")
		}
		opt.Addrs = []string{u.Path}
		return opt, parseDB(opt, u.Query().Get("db"), u.Query(), "db")
	case scheme != "redis" && scheme != "rediss" || !slices.Contains([]string{"", "sentinel", "cluster"}, kind):
		return nil, errors.New("unknown scheme: use redis://, rediss:// or unix://, or one of the first two with +sentinel or +cluster")
	case scheme == "rediss":
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	path := strings.Trim(u.Path, "/")
	if kind == "sentinel" {
		port = "26379"
		opt.MasterName, path, _ = strings.Cut(path, "/")
		if opt.MasterName == "" {
			return nil, errors.New("it names no primary: use redis+sentinel://host1,host2/NAME")
		}
		opt.SentinelUsername, opt.SentinelPassword = u.Query().Get("sentinel_username"), u.Query().Get("sentinel_password")
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, err := hostPort(host, port)
		if err != nil {
			return nil, err
		}
		opt.Addrs = append(opt.Addrs, addr)
	}
	switch {
	case kind == "" && len(opt.Addrs) > 1:
		return nil, errors.New("it names several hosts: use redis+sentinel:// or redis+cluster://")
	case kind == "cluster" && path != "":
		return nil, errors.New("a cluster has no databases to choose from")
	case kind == "sentinel":
		return opt, parseDB(opt, path, u.Query(), "sentinel_username", "sentinel_password")
	}
	return opt, parseDB(opt, path, u.Query())
}

// takeHosts takes out of a URL what net/url does not know: several hosts.
func takeHosts(raw string) (rest, hosts string) {
	from := strings.Index(raw, "://") + len("://")
	if from < len("://") {
		return raw, ""
	}
	to := len(raw)
	if i := strings.IndexAny(raw[from:], "/?#"); i >= 0 {
		to = from + i
	}
	from += strings.LastIndex(raw[from:to], "@") + 1
	return raw[:from] + raw[to:], raw[from:to]
}

// hostPort adds what is missing in host.
func hostPort(host, port string) (string, error) {
	h, p, err := net.SplitHostPort(host)
	if err != nil {
		h, p = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), port
	}
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 || strings.Contains(h, ":") && net.ParseIP(h) == nil {
		return "", errors.New("bad host or port: use host:port, port from 1 to 65535")
	}
	if h == "" {
		h = "localhost"
	}
	return net.JoinHostPort(h, p), nil
}

// parseDB reads the number of a database, and refuses parameters that nobody
// knows.
func parseDB(opt *redis.UniversalOptions, db string, query url.Values, known ...string) error {
	if db != "" {
		n, err := strconv.ParseUint(db, 10, 16)
		if err != nil {
			return errors.New("the database is not a number")
		}
		opt.DB = int(n)
	}
	for name := range query {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown parameter %q", name)
		}
	}
	return nil
}

// address is opt's Redis for people.
func address(opt *redis.UniversalOptions) string {
	addrs := strings.Join(opt.Addrs, ",")
	if opt.MasterName != "" {
		return opt.MasterName + " of " + addrs
	}
	return addrs
}
