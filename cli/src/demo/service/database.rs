//! The database of the demo: one line in, one line out.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// Longest question taken.
pub const LINE_BYTES_MAX: u64 = 4096;

/// Answers on every connection until the process ends.
pub async fn serve(listener: TcpListener) {
    loop {
        // A failed accept (out of files, peer gone) is that peer's loss, not the service's end.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read);
    loop {
        let mut question = String::new();
        match (&mut lines).take(LINE_BYTES_MAX).read_line(&mut question).await {
            Ok(read) if read > 0 && question.ends_with('\n') => {}
            _ => return,
        }
        let row = format!("row for {}\n", question.trim_end());
        if write.write_all(row.as_bytes()).await.is_err() {
            return;
        }
    }
}
