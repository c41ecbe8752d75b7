// go build with_gorilla.go; run it with the version of gorilla/websocket as its argument
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{EnableCompression: true, CheckOrigin: func(*http.Request) bool { return true }}

func talk(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	var sending sync.Mutex
	done := make(chan struct{})
	defer close(done)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	conn.SetPongHandler(func(string) error { return conn.SetReadDeadline(time.Now().Add(5 * time.Second)) })
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
				conn.WriteControl(websocket.PingMessage, []byte("?"), time.Now().Add(time.Second))
			}
		}
	}()
	if r.URL.Path == "/count" {
		go count(conn, &sending, r.URL.Query().Get("rate"), done)
	}
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			code := 1006
			if closed, is := err.(*websocket.CloseError); is {
				code = closed.Code
			}
			fmt.Println("closed", r.URL.Path, code)
			return
		}
		if r.URL.Path == "/close" {
			code, _ := strconv.Atoi(r.URL.Query().Get("code"))
			text := websocket.FormatCloseMessage(code, r.URL.Query().Get("reason"))
			conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second))
			continue
		}
		sending.Lock()
		conn.WriteMessage(kind, data)
		sending.Unlock()
	}
}

func count(conn *websocket.Conn, sending *sync.Mutex, text string, done chan struct{}) {
	rate, _ := strconv.ParseFloat(text, 64)
	pad := strings.Repeat("x", 150)
	began := time.Now()
	for number := 0; ; number++ {
		if wait := time.Duration(float64(number)/rate*1e9) - time.Since(began); wait > 0 {
			time.Sleep(wait)
		}
		sending.Lock()
		err := conn.WriteMessage(websocket.TextMessage, []byte(fmt.Sprintf(`{"n":%d,"pad":"%s"}`, number, pad)))
		sending.Unlock()
		if err != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("version", strings.Join(os.Args[1:], " "), "("+runtime.Version()+")")
	fmt.Println("listening", listener.Addr().(*net.TCPAddr).Port)
	http.HandleFunc("/", talk)
	panic(http.Serve(listener, nil))
}
