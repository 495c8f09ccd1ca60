// Package lockclient takes locks in a shared Redis: fair, fenced, and told in
// time when they are lost.
package lockclient
