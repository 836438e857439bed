/// Returns a text of a stranger so that it cannot steer a terminal, with the line ends of ours.
pub(crate) fn printable(text: &str) -> String {
    freehold_model::printable(&text.replace("\r\n", "\n")).into_owned()
}
